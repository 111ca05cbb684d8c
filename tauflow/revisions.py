"""What experiments, revisions and the working tree found: read from commits, of which none is checked out."""

import subprocess
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import resolve_rev

from pipeline.errors import UserError
from pipeline.measurements import parse_measurements
from tauflow.layout import RESULTS
from tauflow.workspace import PARAMETERS

WORKSPACE = "workspace"  # DVC's word for the working tree
# Characters of a parameter's value.
_LONGEST = 60


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


def changes(ours: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The dotted names of the entries in which two nested mappings differ, with both values; ``None`` if absent."""
    for key in dict.fromkeys([*ours, *theirs]):
        one, other = ours.get(key), theirs.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from changes(one, other, f"{prefix}{key}.")
        elif one != other or (key in ours) != (key in theirs):
            yield f"{prefix}{key}", one, other


def change_text(key: str, before: object, now: object) -> str:
    """A change as people read it; long values are cut."""
    return f"{key}: {textwrap.shorten(str(before), _LONGEST)} → {textwrap.shorten(str(now), _LONGEST)}"


def revisions(names: Sequence[str]) -> dict[str, str | None]:
    """The commit of each experiment by name; ``None`` is the working tree.

    Args:
        names: experiments, git revisions, or ``workspace``; none: all experiments of the current commit, and the
            working tree.

    Raises:
        UserError: there is no repository, or no such experiment or revision.
    """
    try:
        with Repo() as repo:
            if names:
                return {name: None if name == WORKSPACE else resolve_rev(repo.scm, name) for name in names}
            of_baseline = repo.experiments.ls().values()
    except DvcException as error:
        raise UserError(f"experiments: {' '.join(str(error).split())}; `dvc exp list` shows their names") from None
    return {WORKSPACE: None, **{name: revision for pairs in of_baseline for name, revision in sorted(pairs)}}


def read_experiment(name: str, revision: str | None) -> Experiment:
    """What one experiment found.

    Raises:
        UserError: its parameters or its results are missing, unreadable, or of different seeds.
    """
    parameters = read_parameters(name, revision)
    results = _read(name, revision, RESULTS)
    table = parse_measurements(results, f"{name}: {RESULTS}")
    seeds = table["seed"].unique().tolist()
    if seeds != [parameters["seed"]]:
        raise UserError(
            f"{name}: {RESULTS} is of seeds {seeds}, {PARAMETERS} of seed {parameters['seed']}; run all its stages"
        )
    return Experiment(name, parameters, results, table)


def read_parameters(name: str, revision: str | None) -> dict[str, Any]:
    """The parameters of an experiment as they stand there, unchecked but for the seed.

    Raises:
        UserError: they are missing, no YAML, or without a seed.
    """
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
