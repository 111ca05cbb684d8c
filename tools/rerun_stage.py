"""Run one stage again and compare its metrics with the committed ones.

    .venv/bin/python -m tools.rerun_stage addition@mini-clip-standard

Missing inputs are pulled from the DVC remote, or made with --upstream. A metric may move within its interval in the
committed reports/results.csv; where it has none there (a chosen α, an accuracy on val), by --tolerance. Prints
Markdown, DVC's own output goes to stderr; exit code 0: all inside, 1: not all, 2: there is nothing to compare.
"""

import difflib
import io
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
import typer
import yaml
from dvc.exceptions import DvcException
from dvc.repo import Repo

from pipeline.errors import UserError
from pipeline.measurements import MEAN, select
from tauflow.layout import REPORTS, RESULTS
from tauflow.workspace import program_path
from tools.compare_results import GONE, INSIDE, NEW, OUTSIDE, SAME, interval, number, passes, table

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.stage import Stage

LOCK = Path("dvc.lock")


@dataclass(frozen=True)
class Change:
    """A metric as committed and now, and what it may be."""

    metric: str
    committed: float | None
    new: float | None
    low: float | None
    high: float | None

    @property
    def verdict(self) -> str:
        """One of those of :mod:`tools.compare_results`."""
        if self.committed is None or self.low is None or self.high is None:
            return NEW
        if self.new is None:
            return GONE
        if self.new == self.committed or (math.isnan(self.new) and math.isnan(self.committed)):
            return SAME
        return INSIDE if self.low <= self.new <= self.high else OUTSIDE


@dataclass(frozen=True)
class Plan:
    """What a re-run needs to know of a stage.

    cached, absent: the outputs of others that it reads and that are not there, apart by whether the cache has them.
    makers: the stages that make the absent ones.
    """

    cached: tuple[str, ...]
    absent: tuple[str, ...]
    makers: tuple[str, ...]
    metrics: tuple[str, ...]
    has_remote: bool


def plan(name: str) -> Plan:
    """Look a stage up in the DAG.

    Raises:
        UserError: there is no such stage under the present parameters, or DVC cannot read the DAG.
    """
    try:
        with Repo() as repo:
            stages = {stage.addressing: stage for stage in repo.index.stages}
            if name not in stages:
                close = difflib.get_close_matches(name, stages, n=3) or sorted(stages)[:3]
                raise UserError(f"no such stage with the present params.yaml; is it one of {', '.join(close)}?")
            stage = stages[name]
            missing = [out for out in _inputs(repo, stage) if not out.exists]
            absent = [out for out in missing if out.changed_cache()]
            return Plan(
                cached=tuple(out.def_path for out in missing if out not in absent),
                absent=tuple(out.def_path for out in absent),
                makers=tuple(dict.fromkeys(out.stage.addressing for out in absent)),
                metrics=tuple(out.def_path for out in stage.outs if _is_committed_json(out)),
                has_remote="remote" in repo.config["core"],
            )
    except DvcException as error:
        raise UserError(" ".join(str(error).split())) from None


def _is_committed_json(out: "Output") -> bool:
    return Path(out.def_path).suffix == ".json" and not out.use_cache


def _inputs(repo: Repo, stage: "Stage") -> Iterator["Output"]:
    """The cached outputs that a stage depends on, those below a directory it depends on included."""
    paths = [Path(dep.fs_path) for dep in stage.deps]
    for out in repo.index.outs:
        path = Path(out.fs_path)
        if out.use_cache and any(path == dep or path in dep.parents or dep in path.parents for dep in paths):
            yield out


def bring(found: Plan, remote: str | None, upstream: bool) -> None:
    """Get the missing inputs: from the cache, then from the remote or by running what makes them.

    Raises:
        UserError: they are nowhere to be had.
    """
    if found.cached:  # `dvc pull` would ask the remote for these too
        dvc("checkout", "--", *found.cached)
    if not found.absent:
        return
    if remote or found.has_remote:
        dvc("pull", *(("--remote", remote) if remote else ()), "--", *found.absent)
    elif upstream:
        dvc("repro", "--", *found.makers)
    else:
        raise UserError(
            f"{found.absent[0]} and what else it reads are neither here nor in the cache; set a remote "
            "(`dvc remote add --local --default ci URL`), or make them with --upstream"
        )


def dvc(*arguments: str) -> None:
    """A ``dvc`` command, its output on stderr.

    Raises:
        UserError: it failed, and has said why.
    """
    environment = {**os.environ, "PATH": program_path(os.environ.get("PATH", ""))}
    command = [sys.executable, "-m", "dvc", *arguments]
    code = subprocess.run(command, stdout=sys.stderr, env=environment, check=False).returncode
    if code != 0:
        raise UserError(f"`dvc {arguments[0]}` failed, as it says above")


def changes(metrics: Sequence[str], intervals: Mapping[str, tuple[float, float, float]], tol: float) -> list[Change]:
    """The metrics of HEAD and of the working tree, with what they may be.

    Args:
        metrics: the files.
        intervals: of each metric, the value to which the interval belongs, and its bounds.
        tol: how far a metric may move that has none.
    """
    found = []
    with Repo() as repo:
        compared = repo.metrics.diff("HEAD", targets=list(metrics), all=True) if metrics else {}
    for path, values in sorted(compared.get("diff", {}).items()):
        directory = Path(path).parent.relative_to(REPORTS)
        for key, pair in sorted(values.items()):
            name, old = f"{directory}/{key}", pair.get("old")
            value, low, high = intervals.get(name, (None, None, None))
            if old is not None and value != old:  # none, or that of a table that was not committed with the metric
                low, high = old - tol, old + tol
            found.append(Change(name, old, pair.get("new"), low, high))
    return found


def named_intervals(results: pd.DataFrame) -> dict[str, tuple[float, float, float]]:
    """Value and interval of every mean over tasks, by the name under which its stage has it among its metrics."""
    found = {}
    for row in select(results, task=MEAN).dropna(subset="ci_low").to_dict("records"):
        key = ".".join(row[part] for part in ("benchmark", "setting", "metric") if row[part] != "none")
        found[f"{row['model']}/{row['paradigm']}/{key}"] = (row["value"], row["ci_low"], row["ci_high"])
    return found


def committed(path: Path) -> str | None:
    """The text of a file at HEAD, ``None`` if it has none."""
    command = ["git", "cat-file", "blob", f"HEAD:./{path.as_posix()}"]
    result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    return result.stdout if result.returncode == 0 else None


def locked_outs(lock: str | None, stage: str) -> dict[str, str]:
    """The hash of every output of a stage, from the text of ``dvc.lock``."""
    entry: dict[str, Any] = (yaml.safe_load(lock) if lock else {}).get("stages", {}).get(stage, {})
    return {item["path"]: item["md5"] for item in entry.get("outs", [])}


def markdown(stage: str, found: Sequence[Change], before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Metrics, then the stage's files: the same bytes or not."""
    verdict = "" if not found else ": " + ("all metrics inside" if passes(c.verdict for c in found) else "**moved**")
    lines = [f"## {stage}{verdict}", ""]
    if found:
        titles = ["metric", "committed", "allowed", "new", ""]
        cells = [[c.metric, number(c.committed), interval(c.low, c.high), number(c.new), c.verdict] for c in found]
        lines += [*table(titles, cells), ""]
    files = [[path, "the same bytes" if before.get(path) == md5 else "other bytes"] for path, md5 in after.items()]
    return "\n".join([*lines, *table(["file", "against HEAD"], files)])


def main(
    stage: Annotated[str, typer.Argument(help="One instance, such as addition@mini-clip-standard.")],
    remote: Annotated[str | None, typer.Option(help="Of DVC; its default remote if not given.")] = None,
    upstream: Annotated[bool, typer.Option("--upstream", help="Without a remote, make missing inputs.")] = False,
    tolerance: Annotated[float, typer.Option(min=0.0, help="For metrics without an interval.")] = 0.01,
) -> None:
    """Run STAGE again, and say how its metrics moved."""
    try:
        found = plan(stage)
        results, before = committed(RESULTS), locked_outs(committed(LOCK), stage)
        intervals = named_intervals(pd.read_csv(io.StringIO(results))) if results else {}
        bring(found, remote, upstream)
        dvc("repro", "--single-item", "--force", "--", stage)
    except UserError as error:
        print(f"error: {stage}: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    after = locked_outs(LOCK.read_text(encoding="utf-8"), stage)
    moved = changes(found.metrics, intervals, tolerance)
    print(markdown(stage, moved, before, after))
    raise typer.Exit(0 if passes(change.verdict for change in moved) else 1)


if __name__ == "__main__":
    typer.run(main)
