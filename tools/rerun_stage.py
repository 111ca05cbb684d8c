"""Run one stage again and compare its metrics with the committed ones.

    .venv/bin/python -m tools.rerun_stage addition@mini-clip-standard

Missing inputs are pulled from the DVC remote, or made with --upstream. A metric may move within its interval in the
committed reports/results.csv or, without an interval (an accuracy on val), by --tolerance. A chosen α that moved, and
metrics that depend on it, are reported and do not fail. Prints Markdown; DVC's output goes to stderr. Exit code 0:
nothing failed, 1: a metric failed, 2: there is nothing to compare.
"""

import difflib
import json
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

from artifacts.layout import REPORTS, RESULTS
from artifacts.workspace import program_path
from pipeline.errors import UserError, one_line
from pipeline.measurements import MEAN, parse_measurements, select
from tauflow.comparing.judging import (
    CHOSEN,
    FOLLOWS,
    GONE,
    INSIDE,
    NEW,
    OUTSIDE,
    SAME,
    interval,
    markdown_table,
    number,
    passes,
)
from tauflow.comparing.revisions import HEAD, read_text
from tauflow.dvc.lockfile import flatten

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.stage import Stage

LOCK = Path("dvc.lock")
# Metrics of the edits whose coefficients are chosen, by section of a paradigm's alpha.json.
FOLLOWING = {
    "addition": ("addition.tuned.", "val.accuracy", "val.normalized"),
    "per_task": ("addition.per_task.",),
    "negation": ("negation.tuned.",),
}


@dataclass(frozen=True)
class Change:
    """A metric as committed and now, and its interval.

    Args:
        choice: whether it is a chosen α.
        another_choice: whether it is a metric of an edit whose α is not the committed one.
    """

    metric: str
    committed: float | None
    new: float | None
    low: float | None
    high: float | None
    choice: bool = False
    another_choice: bool = False

    @property
    def verdict(self) -> str:
        """One of the verdicts of :mod:`tauflow.comparing.judging`."""
        if self.committed is None or self.low is None or self.high is None:
            return NEW
        if self.new is None:
            return GONE
        if self.new == self.committed or (math.isnan(self.new) and math.isnan(self.committed)):
            return SAME
        if self.choice and not math.isnan(self.new):
            return CHOSEN
        if self.low <= self.new <= self.high:
            return INSIDE
        return FOLLOWS if self.another_choice else OUTSIDE


@dataclass(frozen=True)
class StageFiles:
    """The inputs and metrics of a stage to run again.

    Args:
        cached: missing inputs that the cache has.
        absent: missing inputs that the cache does not have.
        makers: the stages that make the absent inputs.
        metrics: its metrics files.
        has_remote: whether DVC has a default remote.
    """

    cached: tuple[str, ...]
    absent: tuple[str, ...]
    makers: tuple[str, ...]
    metrics: tuple[str, ...]
    has_remote: bool


def stage_files(name: str) -> StageFiles:
    """Return what a re-run of a stage needs.

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
            return StageFiles(
                cached=tuple(out.def_path for out in missing if out not in absent),
                absent=tuple(out.def_path for out in absent),
                makers=tuple(dict.fromkeys(out.stage.addressing for out in absent)),
                metrics=tuple(out.def_path for out in stage.outs if _is_committed_json(out)),
                has_remote="remote" in repo.config["core"],
            )
    except DvcException as error:
        raise UserError(one_line(error)) from None


def _is_committed_json(out: "Output") -> bool:
    return Path(out.def_path).suffix == ".json" and not out.use_cache


def _inputs(repo: Repo, stage: "Stage") -> Iterator["Output"]:
    """Yield the cached outputs that a stage depends on, including those below a directory it depends on."""
    paths = [Path(dep.fs_path) for dep in stage.deps]
    for out in repo.index.outs:
        path = Path(out.fs_path)
        if out.use_cache and any(path == dep or path in dep.parents or dep in path.parents for dep in paths):
            yield out


def fetch_inputs(files: StageFiles, remote: str | None, upstream: bool) -> None:
    """Get the missing inputs: from the cache, then from the remote or by running the stages that make them.

    Raises:
        UserError: there is no remote, and ``upstream`` is false.
    """
    if files.cached:  # `dvc pull` would request these from the remote as well
        dvc("checkout", "--", *files.cached)
    if not files.absent:
        return
    if remote or files.has_remote:
        dvc("pull", *(("--remote", remote) if remote else ()), "--", *files.absent)
    elif upstream:
        dvc("repro", "--", *files.makers)
    else:
        raise UserError(
            f"{files.absent[0]} and what else it reads are neither here nor in the cache; set a remote "
            "(`dvc remote add --local --default ci URL`), or make them with --upstream"
        )


def dvc(*arguments: str) -> None:
    """Run a ``dvc`` command, with its output on stderr.

    Raises:
        UserError: it failed; its output says why.
    """
    environment = {**os.environ, "PATH": program_path(os.environ.get("PATH", ""))}
    command = [sys.executable, "-m", "dvc", *arguments]
    code = subprocess.run(command, stdout=sys.stderr, env=environment, check=False).returncode
    if code != 0:
        raise UserError(f"`dvc {arguments[0]}` failed, as it says above")


def changes(metrics: Sequence[str], intervals: Mapping[str, tuple[float, float, float]], tol: float) -> list[Change]:
    """Return the metrics of HEAD and of the working tree, with the intervals that they may be in.

    Args:
        metrics: the metrics files.
        intervals: by metric, the value that the interval belongs to, and its bounds.
        tol: how far a metric without an interval may move.
    """
    changed = []
    with Repo() as repo:
        compared = repo.metrics.diff("HEAD", targets=list(metrics), all=True) if metrics else {}
    for path, values in sorted(compared.get("diff", {}).items()):
        directory = Path(path).parent.relative_to(REPORTS)
        moved = _moved_metrics(directory)
        for key, pair in sorted(values.items()):
            name, old = f"{directory}/{key}", pair.get("old")
            value, low, high = intervals.get(name, (None, None, None))
            if old is not None and value != old:  # none, or of a table that was not committed with the metric
                low, high = old - tol, old + tol
            changed.append(Change(name, old, pair.get("new"), low, high, _is_choice(key), key.startswith(moved)))
    return changed


def _is_choice(key: str) -> bool:
    return key.startswith("alpha.") or key.endswith(".alpha")


def _moved_metrics(directory: Path) -> tuple[str, ...]:
    """Return the prefixes of a paradigm's metrics whose α is not the committed one."""
    path = REPORTS / directory / "alpha.json"
    before, after = (json.loads(read_text(revision, path) or "{}").get("alpha", {}) for revision in (HEAD, None))
    old, new = dict(flatten(before)), dict(flatten(after))
    sections = {key.partition(".")[0] for key in old.keys() & new.keys() if old[key] != new[key]}
    return tuple(prefix for section in sections for prefix in FOLLOWING.get(section, ()))


def named_intervals(results: pd.DataFrame) -> dict[str, tuple[float, float, float]]:
    """Return value and interval of every mean over tasks, by its name among the metrics of its stage."""
    intervals, parts = {}, ("benchmark", "method", "setting", "metric")
    for row in select(results, scope=MEAN).dropna(subset="ci_low").to_dict("records"):
        key = ".".join(row[part] for part in parts if row[part] not in ("none", ""))
        intervals[f"{row['model']}/{row['paradigm']}/{key}"] = (row["value"], row["ci_low"], row["ci_high"])
    return intervals


def locked_outs(lock: str | None, stage: str) -> dict[str, str]:
    """Return the hash of every output of a stage, from the text of ``dvc.lock``."""
    entry: dict[str, Any] = (yaml.safe_load(lock) if lock else {}).get("stages", {}).get(stage, {})
    return {item["path"]: item["md5"] for item in entry.get("outs", [])}


def markdown(stage: str, changed: Sequence[Change], before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Return a table of metrics, then one of the stage's files: the same bytes or not."""
    verdict = "" if not changed else ": " + ("nothing failed" if passes(c.verdict for c in changed) else "**moved**")
    lines = [f"## {stage}{verdict}", ""]
    if changed:
        titles = ["metric", "committed", "allowed", "new", ""]
        cells = [[c.metric, number(c.committed), interval(c.low, c.high), number(c.new), c.verdict] for c in changed]
        lines += [*markdown_table(titles, cells), ""]
    files = [[path, "the same bytes" if before.get(path) == md5 else "other bytes"] for path, md5 in after.items()]
    return "\n".join([*lines, *markdown_table(["file", "against HEAD"], files)])


def main(
    stage: Annotated[str, typer.Argument(help="One instance, such as addition@mini-clip-standard.")],
    remote: Annotated[str | None, typer.Option(help="Of DVC; its default remote if not given.")] = None,
    upstream: Annotated[bool, typer.Option("--upstream", help="Without a remote, make missing inputs.")] = False,
    tolerance: Annotated[float, typer.Option(min=0.0, help="For metrics without an interval.")] = 0.01,
) -> None:
    """Run STAGE again and report how its metrics moved."""
    try:
        files = stage_files(stage)
        results, before = read_text(HEAD, RESULTS), locked_outs(read_text(HEAD, LOCK), stage)
        intervals = named_intervals(parse_measurements(results, str(RESULTS))) if results else {}
        fetch_inputs(files, remote, upstream)
        dvc("repro", "--single-item", "--force", "--", stage)
    except UserError as error:
        print(f"error: {stage}: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    after = locked_outs(LOCK.read_text(encoding="utf-8"), stage)
    moved = changes(files.metrics, intervals, tolerance)
    print(markdown(stage, moved, before, after))
    raise typer.Exit(0 if passes(change.verdict for change in moved) else 1)


if __name__ == "__main__":
    typer.run(main)
