"""``tauflow init``: start a study."""

from pathlib import Path
from typing import Annotated

import typer

from tauflow.commands.console import one_line_errors


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", show_default=False)],
    suite: Annotated[
        str | None, typer.Option(help="The suite to compose, a file of conf/suite/.", show_default="mini")
    ] = None,
) -> None:
    """Start a study: a new git and DVC repository with the pipeline, its configuration and parameters, and no results.

    Your tasks, models and methods live in it, and `tauflow upgrade` brings a newer Tauflow to it.

    For example: `tauflow init ~/digits --suite tiny`.
    """
    from tauflow.study.start import start_study  # imports a good part of DVC

    with one_line_errors():
        start_study(directory, suite)
    print(f"{directory}: a study, in a git repository of its own")
    print(f"Next: `cd {directory}`, then `tauflow plan` shows what would run, `tauflow repro summary` runs it.")
