"""``tauflow evaluate``: any edit on any task."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tauflow.commands import completion
from tauflow.commands.console import checked_parameters, chosen, note, one_line_errors
from tauflow.commands.edit_options import ModelOption, ParadigmOption
from tauflow.commands.output import Format, FormatOption, OutOption, emit
from tauflow.edits import check_task, edit_text, parse_edit

if TYPE_CHECKING:
    from pipeline.config import Parameters


def evaluate(
    edit: Annotated[
        str,
        typer.Option(metavar="TASK=α,...", help="Coefficients over task vectors.", autocompletion=completion.edit),
    ],
    model: ModelOption = None,
    paradigm: ParadigmOption = None,
    tasks: Annotated[
        str,
        typer.Option(
            metavar="TASK,...|all",
            help="What to evaluate on; all: every task and the control.",
            autocompletion=completion.task_list,
        ),
    ] = "all",
    split: Annotated[Literal["test", "val"], typer.Option(help="Choose coefficients on val, report on test.")] = "test",
    form: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """Evaluate an edited model: accuracy with its interval, zero-shot beside it, and normalised accuracy on test.

    The edit is θ₀ plus each named task vector times its coefficient, in the space of the paradigm.

    For example: `tauflow evaluate --edit icons=0.4,signs=-0.2 --paradigm ntk --tasks icons,signs`.
    """
    parameters = checked_parameters()
    with one_line_errors():
        coefficients = parse_edit(edit, parameters.tasks)
        model = chosen("--model", model, parameters.models)
        paradigm = chosen("--paradigm", paradigm, parameters.paradigms)
        named = _named_tasks(tasks, parameters)
        from tauflow.evaluating import evaluate_edit, results_frame  # imports torch and open_clip

        results = evaluate_edit(parameters, model, paradigm, coefficients, named, split)
        title = f"{edit_text(coefficients)} of {model}, {paradigm}, on {split}: accuracy in %"
        emit(results_frame(parameters, results), title, form, out)
        if split == "val":
            note("normalised accuracy needs single-task results, which the pipeline has for test only")
        elif all(result.normalised is None for result in results if result.task != parameters.control):
            note(f"no normalised accuracy: `dvc repro single_task@{model}-{paradigm}` makes what it needs")


def _named_tasks(text: str, parameters: "Parameters") -> list[str]:
    if text == "all":
        return parameters.datasets
    named = [task.strip() for task in text.split(",")]
    for task in named:
        check_task("--tasks", task, parameters.datasets)
    return list(dict.fromkeys(named))
