"""``tauflow compare``: paradigms, experiments, or our results and the literature, side by side."""

from typing import Annotated

import typer

from pipeline.errors import UserError
from tauflow.commands.console import checked_parameters, note, one_line_errors
from tauflow.commands.output import Format, FormatOption, OutOption, WideOption, emit

# Columns that a narrow terminal does without, the first of them first.
OPTIONAL_COLUMNS = (
    "normalised, α = 1",
    "negation: control",
    "addition, α = 1",
    "α",
    "normalised",
    "single-task",
    "model",
)


def compare(
    experiments: Annotated[list[str] | None, typer.Argument(metavar="[EXPERIMENT]...", show_default=False)] = None,
    literature: Annotated[bool, typer.Option("--literature", help="Ours against the published figures.")] = False,
    form: FormatOption = Format.table,
    out: OutOption = None,
    wide: WideOption = False,
) -> None:
    """Compare paradigms, DVC experiments or git revisions, or our results with the literature, on test, in percent.

    Without arguments, it compares the paradigms of the study in params.yaml, after `tauflow repro summary`. With names
    of experiments, revisions or `workspace` (the working tree), it compares these, without checking them out. Results
    that do not belong to the parameters beside them are refused.

    For example: `tauflow compare --format latex --out table.tex`, `tauflow compare workspace HEAD~1`, or
    `tauflow compare --literature`.
    """
    with one_line_errors():
        if literature and experiments:
            raise UserError("--literature compares the working tree; leave out the experiments")
        if experiments:
            from tauflow.comparing.side_by_side import compare_experiments

            frame, notes = compare_experiments(experiments)
            title = "Experiments: means over tasks, in %"
        elif literature:
            from tauflow.comparing.literature import compare_with_literature
            from tauflow.comparing.ownership import read_headlines

            params = checked_parameters()
            results = read_headlines(params)
            frame, notes = compare_with_literature(results, params.models, params.tasks, params.control)
            title = "Published: means over 8, 14 or 20 tasks, in %"
        else:
            from tauflow.comparing.side_by_side import compare_paradigms

            params = checked_parameters()
            frame, notes = compare_paradigms(params), []
            study = f"Suite {params.suite}, {', '.join(params.models)}, seed {params.seed}"
            title = f"{study}: means over {len(params.tasks)} tasks, in %"
        emit(frame, title, form, out, wide=wide, optional=OPTIONAL_COLUMNS)
    for line in notes:
        note(line)
