"""What all commands share: a user's mistake is one line, and parameters are checked first."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from pipeline.errors import UserError
from tauflow.workspace import PARAMETERS

if TYPE_CHECKING:
    from pipeline.config import Parameters


def checked_parameters() -> "Parameters":
    """``params.yaml``, or one line and exit code 1."""
    from pipeline.config import LegalNames, load_parameters
    from pipeline.models import model_names
    from pipeline.tasks import task_names

    with one_line_errors():
        return load_parameters(PARAMETERS, LegalNames(task_names(), model_names()))


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A user's mistake is one line and exit code 1."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


def note(text: str) -> None:
    """Say something beside the result, on stderr."""
    print(f"note: {text}", file=sys.stderr)


def chosen(option: str, name: str | None, legal: list[str]) -> str:
    """What an option names, by default the first of what params.yaml lists.

    Raises:
        UserError: params.yaml does not list it.
    """
    if name is not None and name not in legal:
        raise UserError(f"{option}: {name!r} is not in params.yaml; legal are {', '.join(legal)}")
    return name or legal[0]
