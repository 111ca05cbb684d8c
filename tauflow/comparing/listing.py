"""A list of DVC's experiments: the parameters that each changes, and its headline numbers."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from dvc.exceptions import DvcException
from dvc.repo import Repo

from artifacts.layout import HEADLINES
from artifacts.workspace import PARAMETERS, git
from pipeline.errors import UserError, one_line
from tauflow.comparing.revisions import HEAD, WORKSPACE, read_experiment, read_parameters
from tauflow.comparing.side_by_side import model_table
from tauflow.dvc.changes import changes

# Columns of the results table, and their titles in the list.
HEADLINE_COLUMNS = {
    "single-task": "single",
    "addition, tuned α": "addition",
    "normalised": "normalised",
    "negation: target": "target",
    "negation: control": "control",
}
# Sections with an entry per task, recipe or paradigm: an entry on one side only follows from a choice.
_CHOSEN_BY_NAME = ("recipe", "schedule", "paradigm", "imported", "epochs")
# Entries that a suite decides.
_OF_A_SUITE = ("tasks", "control", "epochs", "prepare", "schedule", "finetune")
# Maximum length of a value, and number of changes that are listed.
_MAX_CHARACTERS, _SHOWN = 24, 4


@dataclass(frozen=True)
class Listing:
    """The table, a row per experiment, model and paradigm, and a line for each experiment without results."""

    table: pd.DataFrame
    without_results: list[str]


def list_experiments(every_commit: bool, whole: bool) -> Listing:
    """List DVC's experiments of the current commit, after the commit itself and the working tree.

    Args:
        every_commit: also the experiments of other commits.
        whole: all columns of the results table with their intervals, and all changed parameters.

    Raises:
        UserError: there is no repository, or the commit has no parameters.
    """
    revisions: dict[str, str | None] = {HEAD: HEAD, **_working_tree(), **_experiments(every_commit)}
    baseline = read_parameters(HEAD, HEAD)
    rows: list[dict[str, str]] = []
    without = []
    for name, revision in revisions.items():
        changed = parameter_changes(baseline, read_parameters(name, revision), None if whole else _SHOWN)
        try:
            numbers = list(_numbers(name, revision, whole))
        except UserError as error:
            without.append(str(error))
            numbers = [{}]
        first = {"experiment": name, "changed": ", ".join(changed)}
        rows += [
            {**({"experiment": "", "changed": ""} if position else first), **row}
            for position, row in enumerate(numbers)
        ]
    table = pd.DataFrame(rows).fillna("")
    if len({row["model"] for row in rows if row.get("model")}) == 1:
        table = table.drop(columns="model")
    return Listing(table, without)


def parameter_changes(before: Mapping[str, Any], now: Mapping[str, Any], shown: int | None) -> list[str]:
    """Return the parameters that somebody changed, ``seed=1``: without those that follow from another choice.

    Args:
        before, now: the two sets of parameters.
        shown: how many to list; ``None`` for all.
    """
    suite = before.get("suite") != now.get("suite")
    choices = []
    for key, old, new in changes(before, now):
        section = key.partition(".")[0]
        follows = section in _CHOSEN_BY_NAME and (old is None or new is None) and key.count(".") == 1
        if section != "derived" and not follows and not (suite and section in _OF_A_SUITE):
            choices.append((key, new))
    choices.sort(key=lambda change: change[0].count("."))  # whole entries say more than details of a section
    texts = [f"{key}={_value(new)}" for key, new in choices]
    more = [f"{len(texts) - shown} more"] if shown is not None and len(texts) > shown else []
    return [*texts[:shown], *more]


def _value(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return textwrap.shorten(text, _MAX_CHARACTERS, placeholder="…") if " " in text else _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 1]}…"


def _working_tree() -> dict[str, None]:
    """Return the working tree, if its parameters or results are not those of the commit."""
    changed = git("status", "--porcelain", "--", str(PARAMETERS), str(HEADLINES))
    return {WORKSPACE: None} if changed and changed.strip() else {}


def _experiments(every_commit: bool) -> dict[str, str]:
    try:
        with Repo() as repo:
            groups: Sequence[Sequence[tuple[str, str]]] = list(repo.experiments.ls(all_commits=every_commit).values())
    except DvcException as error:
        raise UserError(f"experiments: {one_line(error)}") from None
    return {name: revision for pairs in groups for name, revision in sorted(pairs)}


def _numbers(name: str, revision: str | None, whole: bool) -> Iterator[dict[str, str]]:
    """Yield a row per model and paradigm, in the order of its parameters."""
    experiment = read_experiment(name, revision)
    for model in dict.fromkeys(map(str, experiment.table["model"])):
        table = model_table(experiment.table, model, experiment.parameters["control"], name)
        for row in (dict(zip(map(str, table.columns), cells, strict=True)) for cells in table.itertuples(index=False)):
            if row["paradigm"] != "zero-shot" or whole:
                columns = {key: value for key, value in row.items() if key in HEADLINE_COLUMNS or whole}
                yield {
                    "model": model,
                    "paradigm": row["paradigm"],
                    **{HEADLINE_COLUMNS.get(key, key): _shown(value, whole) for key, value in columns.items()},
                }


def _shown(value: str, whole: bool) -> str:
    return value if whole else value.partition(" ")[0]
