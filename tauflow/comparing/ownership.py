"""Check which study a table of results belongs to; results of another study are refused, never shown."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from artifacts.identity import StudyIdentity, headline_identity, identity_path
from artifacts.layout import HEADLINES
from artifacts.workspace import PARAMETERS
from pipeline.config import Parameters
from pipeline.errors import UserError, missing
from pipeline.measurements import parse_measurements, select
from tauflow.dvc.changes import changes
from tauflow.dvc.lineage import check_table
from tauflow.dvc.verification import check_inputs

# Benchmarks in the summary's table.
HEADLINE_BENCHMARKS = ("zero_shot", "single_task", "addition", "negation")
# Entries of params.yaml that name a study.
NAMES = ("suite", "models", "paradigms", "tasks", "control", "seed")
# Maximum length of a shown value, in characters.
_MAX_CHARACTERS = 60


def read_headlines(params: Parameters) -> pd.DataFrame:
    """Return the measurements of the working tree that the summary shows, if they belong to these parameters.

    Raises:
        UserError: there are no results, they are unreadable, of another study, or older than their inputs.
    """
    where, remedy = str(HEADLINES), "run `tauflow repro summary`"
    owner, text = read_working_text(identity_path(HEADLINES)), read_working_text(HEADLINES)
    if owner is None:
        raise UserError(f"{where}: there are no results of this study yet; {remedy}")
    if text is None:
        raise missing(HEADLINES)
    check_inputs([HEADLINES, identity_path(HEADLINES)], ["summary"])
    identity = parse_identity(owner, where, remedy)
    check_identity(headline_identity(params), identity, where, remedy)
    results = parse_measurements(text, where)
    check_rows(results, identity, where, remedy)
    check_table(params, None, HEADLINES, text, where, remedy)
    return results


def read_working_text(path: Path) -> str | None:
    """Return the text of a file of the working tree; ``None`` if it is missing.

    Raises:
        UserError: it is a directory, cannot be read, or is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file; delete it and run `tauflow repro` again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or type(error).__name__}") from None


def parse_identity(text: str, where: str, remedy: str) -> StudyIdentity:
    """Parse the identity from the file beside a table.

    Raises:
        UserError: it is damaged, or of another version.
    """
    try:
        return StudyIdentity.model_validate_json(text)
    except ValidationError:
        raise UserError(f"{where}: the file beside it does not say whose results these are; {remedy}") from None


def check_identity(expected: StudyIdentity, actual: StudyIdentity, where: str, remedy: str) -> None:
    """Check that results belong to the expected study.

    Raises:
        UserError: they belong to another study.
    """
    check_same(_flat(expected), _flat(actual), where, remedy)


def check_rows(results: pd.DataFrame, identity: StudyIdentity, where: str, remedy: str) -> None:
    """Check that the rows of a table are of the models, paradigms, tasks and seed of the identity beside it.

    Raises:
        UserError: they are not, because table and identity were not written together, or rows are missing.
    """
    if results.empty:
        raise UserError(f"{where}: holds no results; {remedy}")
    names = names_in(results)
    missing = {
        "single-task accuracy": not names["models"],
        f"zero-shot accuracy on {identity.control}": names["control"] is None,
    }
    for row in (row for row, is_missing in missing.items() if is_missing):
        raise UserError(f"{where}: has no row for {row}; {remedy}")
    for key, rows in names.items():
        study = getattr(identity, key)
        if rows != study:
            raise UserError(f"{where}: {key} of its rows: {_short(rows)}, but of its study: {_short(study)}; {remedy}")


def check_same(expected: Mapping[str, Any], actual: Mapping[str, Any], where: str, remedy: str) -> None:
    """Check that the parameters of results are the expected ones.

    Raises:
        UserError: they differ.
    """
    differences = list(changes(actual, expected))
    if differences:
        key, theirs, ours = differences[0]
        more = f" ({len(differences) - 1} more differ)" if len(differences) > 1 else ""
        raise UserError(
            f"{where}: these are the results of another study, whose {key} is {_short(theirs)}; "
            f"{PARAMETERS} has {_short(ours)}{more}; {remedy}"
        )


def names_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the unparsed entries of ``params.yaml`` that name a study."""
    return {key: parameters[key] for key in NAMES if key in parameters}


def names_in(results: pd.DataFrame) -> dict[str, Any]:
    """Return the entries that name a study, except the suite, as the rows of a table have them."""
    evaluated = select(results, benchmark="single_task")
    tasks = list(dict.fromkeys(select(evaluated, scope="task")["task"]))
    zero_shot = dict.fromkeys(select(results, benchmark="zero_shot", scope="task")["task"])
    seeds = results["seed"].unique().tolist()
    return {
        "models": list(dict.fromkeys(evaluated["model"])),
        "paradigms": list(dict.fromkeys(evaluated["paradigm"])),
        "tasks": tasks,
        "control": next((task for task in zero_shot if task not in tasks), None),
        "seed": seeds[0] if len(seeds) == 1 else seeds,
    }


def _flat(identity: StudyIdentity) -> dict[str, Any]:
    """Return the names, followed by the settings by section."""
    content = identity.model_dump(mode="json")
    settings = content.pop("settings")
    return {**content, **settings}


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return textwrap.shorten(text, _MAX_CHARACTERS, placeholder=" …") or "nothing"
