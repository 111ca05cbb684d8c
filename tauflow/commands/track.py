"""``tauflow track``: log pending runs to MLflow."""

import sys
from typing import Annotated

import typer

from artifacts.workspace import tracking_uri
from tauflow.commands.console import checked_parameters, one_line_errors
from tauflow.tracking.journal import tracking_error
from tauflow.tracking.tracker import track as track_journals


def track(
    restored: Annotated[
        bool, typer.Option("--restored", help="Also log results without a run: restored or pulled by DVC.")
    ] = False,
) -> None:
    """Log the runs that were kept while the tracking server was down to MLflow.

    With `--restored`, after `dvc pull` or if DVC restored results from its run cache, it also logs a run for each
    restored result, with its parameters and numbers and the tag `tauflow.restored`, but without its cost.
    """
    remaining = track_journals(linger=0)
    if restored and not remaining:
        parameters = checked_parameters()
        from tauflow.tracking.restore import restore_journals
        from tauflow.tracking.store import reachable_store

        with one_line_errors():
            count = restore_journals(reachable_store(), parameters)
        print(f"{count} results had no run")
        remaining = track_journals(linger=0)
    if remaining:
        warn_not_logged(remaining)
        raise typer.Exit(1)
    print(f"all runs are logged to {tracking_uri()}")


def warn_not_logged(remaining: int) -> None:
    """Warn that runs are kept because MLflow refused them."""
    print(
        f"warning: {remaining} runs are not logged to MLflow ({tracking_error() or 'unknown reason'}); they are kept, "
        "`tauflow track` tries again",
        file=sys.stderr,
    )
