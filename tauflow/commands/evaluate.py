"""``tauflow evaluate``: evaluate any edit on any task."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.errors import UserError
from tauflow.commands import completion
from tauflow.commands.console import checked_parameters, chosen, note, one_line_errors
from tauflow.commands.edit_options import EditOption, ModelOption, ParadigmOption, VectorOption
from tauflow.commands.output import Format, FormatOption, OutOption, emit
from tauflow.edited.edit import check_task, edit_text, parse_edit
from tauflow.edited.provenance import check_edit

if TYPE_CHECKING:
    from pipeline.config import Parameters


def evaluate(
    edit: EditOption = None,
    model: ModelOption = None,
    paradigm: ParadigmOption = None,
    tasks: Annotated[
        str,
        typer.Option(
            metavar="TASK,...|all",
            help="What to evaluate on; all: every task and the control. Any other task with a definition is prepared.",
            autocompletion=completion.task_list,
        ),
    ] = "all",
    split: Annotated[Literal["test", "val"], typer.Option(help="Choose coefficients on val, report on test.")] = "test",
    vector: VectorOption = None,
    form: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """Evaluate an edited model: accuracy with its interval, zero-shot beside it, and normalised accuracy on test.

    The edit is θ₀ plus each named task vector times its coefficient, in the space of the paradigm.

    For example: `tauflow evaluate --edit icons=0.4,signs=-0.2 --paradigm ntk --tasks icons,signs`.
    """
    parameters = checked_parameters()
    with one_line_errors():
        if vector is not None:
            _evaluate_vector(parameters, vector, [edit, model, paradigm], tasks, split, form, out)
            return
        if edit is None:
            raise UserError("evaluate: give either --edit TASK=α,... or --vector FILE")
        coefficients = parse_edit(edit, parameters.tasks)
        model = chosen("--model", model, parameters.models)
        paradigm = chosen("--paradigm", paradigm, parameters.paradigms)
        named = _named_tasks(tasks, parameters)
        inside = [task for task in named if task in parameters.derived.datasets]
        evaluated = [
            *(f"head@{model}-{task}" for task in inside),
            f"features@{model}-{parameters.vectors_of(paradigm)}-{split}",
            f"single_task@{model}-{paradigm}",
        ]
        prepared = [f"prepare@{task}" for task in inside]
        check_edit(parameters, model, paradigm, list(coefficients), prepared, evaluated)
        from tauflow.edited.evaluate import evaluate_edit, results_frame  # imports torch and open_clip

        results = evaluate_edit(parameters, model, paradigm, coefficients, named, split)
        title = f"{edit_text(coefficients)} of {model}, {paradigm}, on {split}: accuracy in %"
        emit(results_frame(parameters, results), title, form, out)
        if split == "val":
            note("normalised accuracy needs single-task results, which the pipeline has for test only")
        elif all(result.normalised is None for result in results if result.task != parameters.control):
            note(f"no normalised accuracy: `dvc repro single_task@{model}-{paradigm}` makes what it needs")


def _evaluate_vector(
    parameters: "Parameters",
    vector: Path,
    others: list[str | None],
    tasks: str,
    split: Literal["test", "val"],
    form: Format,
    out: Path | None,
) -> None:
    if any(other is not None for other in others):
        raise UserError("evaluate: --vector already names the edit; leave out --edit, --model and --paradigm")
    named = _named_tasks(tasks, parameters)
    from pipeline.editing import read_task_vector  # imports torch
    from tauflow.edited.evaluate import evaluate_vector, results_frame  # imports open_clip

    results = evaluate_vector(parameters, read_task_vector(vector), f"--vector {vector}", named, split)
    emit(results_frame(parameters, results), f"{vector} on {split}: accuracy in %", form, out)
    note("no normalised accuracy, since a vector in a file belongs to no paradigm")


def _named_tasks(text: str, parameters: "Parameters") -> list[str]:
    if text == "all":
        return parameters.derived.datasets
    from pipeline.tasks import task_names  # imports pydantic

    named = [task.strip() for task in text.split(",")]
    others = [task for task in task_names() if task not in parameters.derived.datasets]
    for task in named:
        check_task("--tasks", task, [*parameters.derived.datasets, *others])
    return list(dict.fromkeys(named))
