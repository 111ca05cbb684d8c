"""``tauflow import``: make a task vector from another project's checkpoint."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import UserError
from tauflow.commands import completion
from tauflow.commands.console import checked_parameters, chosen, note, one_line_errors
from tauflow.commands.edit_options import ModelOption
from tauflow.edited.edit import check_task

if TYPE_CHECKING:
    from pipeline.foreign.importing import Imported


def import_vector(
    checkpoint: Annotated[Path, typer.Argument(help="A file, or a folder with weights.", show_default=False)],
    task: Annotated[
        str, typer.Option(help="The task it was trained on.", autocompletion=completion.tasks, show_default=False)
    ],
    name: Annotated[str, typer.Option(help="A name for the recipe that made it.", show_default=False)],
    model: ModelOption = None,
    prefix: Annotated[
        str, typer.Option(help="Take only tensors whose names start with this, such as student.", show_default=False)
    ] = "",
) -> None:
    """Import another project's checkpoint as a task vector θ − θ₀, to be evaluated like any other.

    Reads safetensors files, archives of `torch.save` (torch 1.6 or later) and sharded checkpoints with their index.
    They may hold a state dict of open_clip's CLIP or of its image encoder, at any depth; a pickled module, whose code
    is not executed; a linearised model with `params` and `params0`; a CLIP or vision model of Hugging Face; or a
    difference θ − θ₀. The vector is written to data/imported/MODEL/NAME/TASK.safetensors (docs/checkpoints.md).

    For example: `tauflow import checkpoints/ViT-B-32/SVHN/finetuned.pt --task svhn --name ilharco --model ViT-B-32`.
    """
    from pipeline.config import check_name  # imports pydantic

    parameters = checked_parameters()
    with one_line_errors():
        check_task("--task", task, parameters.tasks)
        model = chosen("--model", model, parameters.models)
        try:
            check_name(name)
        except ValueError as error:
            raise UserError(f"--name: {error}") from None
        if name in parameters.recipe:
            raise UserError(f"--name: {name!r} is a recipe that trains; choose another name")
        from tauflow.edited.import_vector import import_checkpoint  # imports torch and open_clip

        path, imported = import_checkpoint(checkpoint, prefix, model, name, task)
    _report(path, imported)
    print(f"Next: `dvc add {path.parent}`, and a paradigm that evaluates it: docs/checkpoints.md")


def _report(path: Path, imported: "Imported") -> None:
    print_size(path, imported)
    print(f"moved: {_listed(list(imported.vector.tensors))}")
    if imported.unmoved:
        print(f"equal to θ₀: {_listed(imported.unmoved)}")
    for remark in remarks(imported):
        note(remark)


def print_size(path: Path, imported: "Imported") -> None:
    """Print how far an imported checkpoint is from θ₀."""
    vector = imported.vector
    print(
        f"{path}: {len(vector.tensors)} tensors moved, ‖τ‖ {vector.norm():.4g}, {imported.relative_norm:.2%} of ‖θ₀‖, "
        f"trained in {vector.provenance.space} space"
    )


def remarks(imported: "Imported") -> Iterator[str]:
    """Yield warnings about an imported checkpoint: oddities, and what could not be checked."""
    if imported.was_difference:
        yield (
            "the tensors are small beside θ₀, so the file is taken to hold τ = θ − θ₀ itself and nothing is subtracted"
        )
    if imported.absent:
        yield f"not in the file, so they stay at θ₀: {_listed(imported.absent)}"
    if not imported.base_is_known:
        yield "the file does not hold the θ₀ that it was trained from, so it cannot be checked that it is this one"
    from tauflow.edited.import_vector import MAX_RELATIVE_NORM  # imports torch and open_clip

    if imported.relative_norm > MAX_RELATIVE_NORM:
        yield "θ is as far from θ₀ as unrelated weights are; make sure that --model is what it was trained from"
    if imported.rounded:
        yield "the file is of lower precision than float32, so τ holds its rounding errors"
    yield from imported.notes


def _listed(names: list[str]) -> str:
    """Join names, merging those of all blocks: ``transformer.resblocks.*.ln_1.weight``."""
    return ", ".join(dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name) for name in names))
