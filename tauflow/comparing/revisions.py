"""Read the results of experiments, revisions and the working tree, without checking out a commit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import resolve_rev
from pydantic import ValidationError

from artifacts.catalogue import TABLES
from artifacts.identity import headline_identity, identity_path
from artifacts.layout import HEADLINES, RESULTS
from artifacts.workspace import PARAMETERS, git
from pipeline.config import Parameters, check_name, parse_yaml
from pipeline.errors import UserError, one_line
from pipeline.measurements import parse_measurements
from tauflow.comparing.ownership import (
    HEADLINE_BENCHMARKS,
    check_identity,
    check_rows,
    check_same,
    names_in,
    names_of,
    parse_identity,
    read_working_text,
)
from tauflow.dvc.lineage import check_table

WORKSPACE = "workspace"  # DVC's name for the working tree
HEAD = "HEAD"
_REMEDY = "run it again with `tauflow repro summary`"
(_MERGING,) = (table for table in TABLES if table.stage == "merging_grid")


@dataclass(frozen=True)
class Experiment:
    """The parameters of an experiment, or of the working tree, and the results that belong to them.

    ``table`` holds the measurements that the summary shows.
    """

    name: str
    parameters: Mapping[str, Any]
    table: pd.DataFrame

    @property
    def seed(self) -> int:
        """The seed of its parameters."""
        return self.parameters["seed"]


def revisions(names: Sequence[str]) -> dict[str, str | None]:
    """Return the commit of each experiment by name; ``None`` is the working tree.

    Args:
        names: experiments, git revisions, or ``workspace``; if empty, all experiments of the current commit and the
            working tree.

    Raises:
        UserError: there is no repository, or no such experiment or revision.
    """
    try:
        with Repo() as repo:
            if names:
                return {name: None if name == WORKSPACE else resolve_rev(repo.scm, name) for name in names}
            baseline = repo.experiments.ls().values()
    except DvcException as error:
        raise UserError(f"experiments: {one_line(error)}; `dvc exp list` shows their names") from None
    return {WORKSPACE: None, **{name: revision for pairs in baseline for name, revision in sorted(pairs)}}


def read_experiment(name: str, revision: str | None) -> Experiment:
    """Return the parameters and results of an experiment.

    Older commits, whose results carry no identity, are checked by the names in ``results.csv``.

    Raises:
        UserError: its parameters or its results are missing or unreadable, or the results are of another study.
    """
    parameters = read_parameters(name, revision)
    text = read_text(revision, HEADLINES)
    if text is None:
        return Experiment(name, parameters, _read_earlier(name, revision, parameters))
    where = f"{name}: {HEADLINES}"
    identity = parse_identity(_required(name, revision, identity_path(HEADLINES)), where, _REMEDY)
    valid = _validated(parameters)
    if valid is not None:
        check_identity(headline_identity(valid), identity, where, _REMEDY)
    else:  # params.yaml of another version of Tauflow: only its names can be compared
        names = names_of(parameters)
        check_same(names, {key: getattr(identity, key) for key in names}, where, _REMEDY)
    results = parse_measurements(text, where)
    check_rows(results, identity, where, _REMEDY)
    if valid is not None:
        check_table(valid, revision, HEADLINES, text, where, _REMEDY)
    return Experiment(name, parameters, results)


def read_parameters(name: str, revision: str | None) -> dict[str, Any]:
    """Return the parameters of an experiment, unchecked except for the seed.

    Raises:
        UserError: they are missing, not YAML, or without a seed.
    """
    content = parse_yaml(_required(name, revision, PARAMETERS), f"{name}: {PARAMETERS}")
    if not isinstance(content, dict) or not isinstance(content.get("seed"), int):
        raise UserError(f"{name}: {PARAMETERS} has no seed; compose it with `tauflow compose`")
    return content


def read_merging(experiment: Experiment, revision: str | None) -> pd.DataFrame | None:
    """Return an experiment's measurements of merging methods; ``None`` if it has none, or lacks some.

    They are outputs that DVC keeps in its cache, not in git.

    Raises:
        UserError: a table is not one of measurements.
    """
    compared = experiment.parameters.get("derived", {}).get("merging_evaluations", {}).values()
    tables: list[pd.DataFrame] = []
    for entry in compared:
        path = _MERGING.path({key: check_name(entry[key]) for key in ("model", "paradigm")})
        text = read_text(None, path) if revision is None else _read_cached(revision, path)
        if text is None:
            return None
        tables.append(parse_measurements(text, f"{experiment.name}: {path}"))
        if set(tables[-1]["seed"]) != {experiment.seed}:  # of a seed that ran here before
            return None
    return pd.concat(tables, ignore_index=True) if tables else None


def _read_cached(revision: str, path: Path) -> str | None:
    """Return the text of a DVC output of a commit; ``None`` if it has none, or neither cache nor remote has it."""
    try:
        with DVCFileSystem(rev=revision).open(path.as_posix(), mode="r", encoding="utf-8") as file:
            return str(file.read())
    except (OSError, DvcException, UnicodeDecodeError):
        return None


def read_text(revision: str | None, path: Path) -> str | None:
    """Return the text of a file in a commit, or in the working tree if ``revision`` is ``None``; ``None`` if missing.

    Raises:
        UserError: the file is not text.
    """
    if revision is None:
        return read_working_text(path)
    # ./ is this directory, which need not be the root of the git repository.
    content = git("cat-file", "blob", f"{revision}:./{path.as_posix()}")
    try:
        return content.decode("utf-8") if content is not None else None
    except UnicodeDecodeError:
        raise UserError(f"{revision}: {path} is not a text file; run it again") from None


def _read_earlier(name: str, revision: str | None, parameters: Mapping[str, Any]) -> pd.DataFrame:
    where = f"{name}: {RESULTS}"
    if revision is None:
        raise UserError(f"{name}: there is no {HEADLINES}; make it with `tauflow repro summary`")
    results = parse_measurements(_required(name, revision, RESULTS), where)
    expected, actual = names_of(parameters), names_in(results)
    shared = expected.keys() & actual.keys()
    check_same({k: expected[k] for k in shared}, {k: actual[k] for k in shared}, where, _REMEDY)
    return results.loc[results["benchmark"].isin(HEADLINE_BENCHMARKS)].reset_index(drop=True)


def _required(name: str, revision: str | None, path: Path) -> str:
    text = read_text(revision, path)
    if text is None:
        raise UserError(f"{name}: there is no {path}; run it again, from the root of the repository")
    return text


def _validated(content: Mapping[str, Any]) -> Parameters | None:
    """Return the parameters if they fit the present schema, ``None`` if another version of Tauflow wrote them."""
    try:
        return Parameters.model_validate(content)
    except ValidationError:
        return None
