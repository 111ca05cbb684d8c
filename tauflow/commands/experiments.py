"""``tauflow experiments``: DVC's experiments, what each changed, and its headline numbers."""

from typing import Annotated

import typer

from tauflow.commands.console import note, one_line_errors
from tauflow.commands.output import Format, FormatOption, OutOption, WideOption, emit


def experiments(
    all_commits: Annotated[bool, typer.Option("--all-commits", "-A", help="Those of other commits as well.")] = False,
    form: FormatOption = Format.table,
    out: OutOption = None,
    wide: WideOption = False,
) -> None:
    """List DVC's experiments of this commit: which parameters each changed, and its headline numbers on test, in %.

    The first row is the commit. Changes are against it, without those that follow from others. `tauflow compare` has
    intervals and the other columns.

    For example: `dvc exp run -S seed=1`, then `tauflow experiments`.
    """
    with one_line_errors():
        from tauflow.comparing.listing import list_experiments  # imports a good part of DVC

        listing = list_experiments(all_commits, wide)
        emit(listing.table, "Experiments: means over tasks, in %", form, out, wide=wide, optional=("target", "control"))
    for line in listing.without_results:
        note(line)
