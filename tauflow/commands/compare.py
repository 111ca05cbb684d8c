"""``tauflow compare``: paradigms, experiments, or ours and the literature, side by side."""

from typing import Annotated

import typer

from pipeline.errors import UserError
from tauflow.commands.console import checked_parameters, note, one_line_errors
from tauflow.commands.output import Format, FormatOption, OutOption, emit
from tauflow.layout import RESULTS


def compare(
    experiments: Annotated[list[str] | None, typer.Argument(metavar="[EXPERIMENT]...", show_default=False)] = None,
    literature: Annotated[bool, typer.Option("--literature", help="Ours against the published figures.")] = False,
    form: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """Compare paradigms, DVC experiments or git revisions, or ours with the literature, on test, in percent.

    Without arguments: the paradigms of reports/results.csv. With names of experiments, revisions or `workspace`
    (the working tree): these against each other; none is checked out.

    For example: `tauflow compare --format latex --out table.tex`, `tauflow compare workspace HEAD~1`, or
    `tauflow compare --literature`.
    """
    with one_line_errors():
        if literature and experiments:
            raise UserError("--literature compares the working tree; leave out the experiments")
        if experiments:
            from tauflow.comparing import compare_experiments

            frame, notes = compare_experiments(experiments)
            title = "Experiments: means over tasks, in %"
        elif literature:
            from pipeline.measurements import read_measurements
            from tauflow.literature import compare_with_literature

            parameters = checked_parameters()
            results = read_measurements(RESULTS)
            frame, notes = compare_with_literature(results, parameters.models, parameters.tasks, parameters.control)
            title = "Published: means over the eight tasks, in %"
        else:
            from tauflow.comparing import compare_paradigms

            frame, notes = compare_paradigms(checked_parameters().control), []
            title = f"{RESULTS}: means over tasks, in %"
        emit(frame, title, form, out)
    for line in notes:
        note(line)
