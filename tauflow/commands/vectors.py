"""``tauflow vectors``: list, show and combine task vectors."""

from pathlib import Path
from typing import Annotated

import typer

from tauflow.commands import completion
from tauflow.commands.console import one_line_errors
from tauflow.commands.merge import MethodOption, MethodOptions, ModifierOption, chosen_steps
from tauflow.commands.output import Format, FormatOption, OutOption, emit
from tauflow.edited.edit import check_task, edit_text, parse_edit

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="List, show and combine task vectors τ = θ − θ₀."
)

Model = Annotated[str, typer.Argument(metavar="MODEL", autocompletion=completion.models)]
Recipe = Annotated[str, typer.Argument(metavar="RECIPE", autocompletion=completion.recipes)]


@app.command(name="list")
def list_all(form: FormatOption = Format.table, out: OutOption = None) -> None:
    """List the task vectors of this repository: number of trained tensors, norm, the θ₀ they start from, seed.

    For example: `tauflow vectors list --format csv`.
    """
    with one_line_errors():
        from tauflow.edited.vectors import list_vectors  # imports torch

        frame = list_vectors()
        emit(frame, f"{len(frame)} task vectors", form, out)


@app.command()
def show(
    model: Model,
    recipe: Recipe,
    task: Annotated[str, typer.Argument(metavar="TASK", autocompletion=completion.tasks)],
    form: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """Show the origin of a task vector, and the norm of each layer's part.

    For example: `tauflow vectors show mini-clip standard icons`.
    """
    with one_line_errors():
        _check_tasks(task)
        from tauflow.edited.vectors import show_vector

        metadata, layers = show_vector(model, recipe, task)
        if form is Format.table and out is None:
            width = max(map(len, metadata))
            for name, value in metadata.items():
                print(f"{name:<{width}}  {value}")
        emit(layers, "Layers", form, out)


@app.command()
def combine(
    model: Model,
    recipe: Recipe,
    edit: Annotated[
        str,
        typer.Option(metavar="TASK=α,...", help="Coefficients over task vectors.", autocompletion=completion.edit),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The safetensors file to write.", show_default=False)],
    method: MethodOption = "sum",
    option: MethodOptions = None,
    modifiers: ModifierOption = None,
) -> None:
    """Write the weighted sum of task vectors as one task vector.

    A merging method other than `sum`, and modifiers, are applied to the named vectors first; the weighted sum is over
    the results. Its metadata names all tasks that went in, but not the coefficients.

    For example: `tauflow vectors combine mini-clip standard --edit icons=0.4,signs=-0.2 --out combined.safetensors`.
    """
    with one_line_errors():
        coefficients = parse_edit(edit, _task_names())
        steps = chosen_steps(method, option or [], modifiers or [])
        from tauflow.edited.vectors import combine_vectors

        combined = combine_vectors(model, recipe, coefficients, *steps, out)
        print(f"{out}: {edit_text(coefficients)} of {model} {combined.provenance.recipe}, norm {combined.norm():.4f}")


def _task_names() -> list[str]:
    from pipeline.tasks import task_names

    return task_names()


def _check_tasks(task: str) -> None:
    check_task("TASK", task, _task_names())
