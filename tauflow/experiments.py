"""Results of several seeds, read from DVC experiments: these are commits, and none is checked out."""

import io
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import resolve_rev

from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.measurements import COLUMNS
from pipeline.report.seeds import pool
from tauflow.layout import RESULTS, SEEDS
from tauflow.workspace import PARAMETERS

WORKSPACE = "workspace"  # DVC's word for the working tree


@dataclass(frozen=True)
class Experiment:
    """What an experiment, or the working tree, found with its parameters."""

    name: str
    parameters: Mapping[str, Any]
    results: str  # the text of results.csv
    table: pd.DataFrame

    @property
    def seed(self) -> int:
        """The seed of its parameters."""
        return self.parameters["seed"]


def collect(names: Sequence[str], say: Callable[[str], None]) -> list[int]:
    """Write the results of experiments to ``reports/seeds/<seed>.csv``, and remove any other seed's from there.

    Args:
        names: experiments, revisions, or ``workspace``; none: all experiments of the current commit that fit, and
            the working tree.
        say: gets a line for each of the latter that is left out, and for each file that is removed.

    Returns:
        the seeds, in order.

    Raises:
        UserError: an experiment is unknown, unreadable or of parameters that differ from those of ``params.yaml`` in
            more than the seed; two have different results for one seed, or for different rows. Nothing is written.
    """
    found = _fitting(names, say)
    tables = {seed: _same(seed, found) for seed in sorted({experiment.seed for experiment in found})}
    if not tables:
        raise UserError("there are no results to collect; run `dvc exp run --queue -S seed=0,1,2`, `dvc queue start`")
    pool([experiment.table for experiment in tables.values()])
    for path in sorted(SEEDS.glob("*.csv")):
        if path.stem not in map(str, tables):
            path.unlink()
            say(f"removed {path}: not of this collection")
    for seed, experiment in tables.items():
        write_text(SEEDS / f"{seed}.csv", experiment.results)
    return list(tables)


def differing(ours: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted names of the entries in which two nested mappings differ."""
    for key in dict.fromkeys([*ours, *theirs]):
        one, other = ours.get(key), theirs.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from differing(one, other, f"{prefix}{key}.")
        elif one != other or (key in ours) != (key in theirs):
            yield f"{prefix}{key}"


def _fitting(names: Sequence[str], say: Callable[[str], None]) -> list[Experiment]:
    reference = _parameters(WORKSPACE, None)
    found = []
    for name, revision in _revisions(names).items():
        try:
            experiment = _experiment(name, revision)
            _check_parameters(experiment, reference)
        except UserError as error:
            if names:
                raise
            say(f"left out {error}")
        else:
            found.append(experiment)
    return found


def _revisions(names: Sequence[str]) -> dict[str, str | None]:
    """The commit of each experiment by name; ``None`` is the working tree."""
    try:
        with Repo() as repo:
            if names:
                return {name: None if name == WORKSPACE else resolve_rev(repo.scm, name) for name in names}
            of_baseline = repo.experiments.ls().values()
    except DvcException as error:
        raise UserError(f"experiments: {' '.join(str(error).split())}; `dvc exp list` shows their names") from None
    return {WORKSPACE: None, **{name: revision for pairs in of_baseline for name, revision in sorted(pairs)}}


def _experiment(name: str, revision: str | None) -> Experiment:
    parameters = _parameters(name, revision)
    results = _read(name, revision, RESULTS)
    try:
        table = pd.read_csv(io.StringIO(results), dtype={"seed": "int64", "value": "float64"})
    except ValueError as error:
        raise UserError(f"{name}: {RESULTS} is no table of measurements ({' '.join(str(error).split())})") from None
    if list(table.columns) != COLUMNS:
        raise UserError(f"{name}: the columns of {RESULTS} are {list(table.columns)}, not {COLUMNS}; run it again")
    seeds = table["seed"].unique().tolist()
    if seeds != [parameters["seed"]]:
        raise UserError(
            f"{name}: {RESULTS} is of seeds {seeds}, {PARAMETERS} of seed {parameters['seed']}; run all its stages"
        )
    return Experiment(name, parameters, results, table)


def _parameters(name: str, revision: str | None) -> dict[str, Any]:
    try:
        content = yaml.safe_load(_read(name, revision, PARAMETERS))
    except yaml.YAMLError as error:
        raise UserError(f"{name}: {PARAMETERS} is no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not isinstance(content.get("seed"), int):
        raise UserError(f"{name}: {PARAMETERS} has no seed; compose it with `tauflow compose`")
    return content


def _read(name: str, revision: str | None, path: Path) -> str:
    try:
        if revision is None:
            return path.read_text(encoding="utf-8")
        # ./ is this directory, which need not be the root of the git repository.
        command = ["git", "cat-file", "blob", f"{revision}:./{path.as_posix()}"]
        return subprocess.run(command, capture_output=True, check=True).stdout.decode("utf-8")
    except (FileNotFoundError, subprocess.CalledProcessError):
        raise UserError(f"{name}: it has no {path}; run it again, from the root of the repository") from None
    except UnicodeDecodeError:
        raise UserError(f"{name}: {path} is no text; run it again") from None


def _check_parameters(experiment: Experiment, reference: Mapping[str, Any]) -> None:
    others = [key for key in differing(reference, experiment.parameters) if key != "seed"]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise UserError(
            f"{experiment.name}: not only its seed differs from {PARAMETERS}, but also {', '.join(others[:3])}{more}"
        )


def _same(seed: int, experiments: Sequence[Experiment]) -> Experiment:
    """Any of the experiments of a seed, since all have the same results."""
    first, *others = (experiment for experiment in experiments if experiment.seed == seed)
    for other in others:
        if other.results != first.results:
            raise UserError(
                f"seed {seed}: the results of {first.name} and {other.name} differ under the same parameters; "
                "name the experiments to collect, or `dvc exp remove` one"
            )
    return first
