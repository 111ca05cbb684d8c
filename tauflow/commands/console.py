"""Helpers for all commands: one-line errors and notes, checked parameters."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from artifacts.workspace import PARAMETERS
from pipeline.errors import UserError, escaped
from tauflow.dvc.guard import guard_lock

if TYPE_CHECKING:
    from pipeline.config import Parameters


def checked_parameters() -> "Parameters":
    """Return the parameters of ``params.yaml``; exit with one line and code 1 if they are wrong.

    A ``dvc.lock`` that a kill cut off is repaired first.
    """
    from pipeline.config import LegalNames, load_parameters
    from pipeline.models import model_names
    from pipeline.tasks import task_names

    with one_line_errors():
        guard_lock(Path())
        parameters = load_parameters(PARAMETERS, LegalNames(task_names(), model_names()))
        if parameters.merged_paradigms():
            from pipeline.merging import check_mergings  # imports torch

            check_mergings(parameters)
        return parameters


def check_merging_methods(parameters: "Parameters") -> None:
    """Check the options of merging methods, which no schema covers; exit with one line and code 1 if one is wrong."""
    from pipeline.analysis.merging_grid import check_methods  # imports torch

    with one_line_errors():
        check_methods(parameters.merging_grid.methods)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a :class:`UserError` into one line on stderr and exit code 1."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


def note(text: str) -> None:
    """Print a note on stderr."""
    print(f"note: {escaped(text)}", file=sys.stderr)


def chosen(option: str, name: str | None, legal: list[str]) -> str:
    """Return an option's value, by default the first of ``legal``.

    Raises:
        UserError: the value is not in params.yaml.
    """
    if name is not None and name not in legal:
        raise UserError(f"{option}: {name!r} is not in params.yaml; choose from {', '.join(legal)}")
    return name or legal[0]
