"""``tauflow import``: another project's checkpoint as a task vector."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import UserError
from tauflow.commands import completion
from tauflow.commands.console import checked_parameters, chosen, note, one_line_errors
from tauflow.commands.edit_options import ModelOption
from tauflow.edits import check_task

if TYPE_CHECKING:
    from pipeline.foreign.importing import Imported

# ‖τ‖ of ‖θ₀‖ from which on θ hardly descends from θ₀: between unrelated weights it is about 1.4.
_FAR = 0.5


def import_vector(
    checkpoint: Annotated[Path, typer.Argument(help="A file, or a folder of Hugging Face's.", show_default=False)],
    task: Annotated[
        str, typer.Option(help="What it was trained on.", autocompletion=completion.tasks, show_default=False)
    ],
    name: Annotated[str, typer.Option(help="What to call the recipe that made it.", show_default=False)],
    model: ModelOption = None,
) -> None:
    """Import another project's checkpoint as a task vector θ − θ₀, to be evaluated like any other.

    It may be a state dict of open_clip's CLIP or of its image encoder, a pickled `ImageEncoder` as task_vectors and
    its descendants save it (none of its code is run), a linearised one with `params` and `params0`, or a CLIP or vision
    model of Hugging Face's. The vector goes to data/imported/MODEL/NAME/TASK.safetensors (docs/checkpoints.md).

    For example: `tauflow import checkpoints/ViT-B-32/SVHN/finetuned.pt --task svhn --name ilharco --model ViT-B-32`.
    """
    parameters = checked_parameters()
    with one_line_errors():
        check_task("--task", task, parameters.tasks)
        model = chosen("--model", model, parameters.models)
        if not re.fullmatch(r"\w+", name, re.ASCII):
            raise UserError(f"--name: {name!r} is no name for a recipe; use letters, digits and _")
        if name in parameters.recipe:
            raise UserError(f"--name: {name!r} is a recipe that trains; choose another name")
        from tauflow.importing import import_checkpoint  # imports torch and open_clip

        path, imported = import_checkpoint(checkpoint, model, name, task)
    _say(path, imported)
    print(f"Next: `dvc add {path.parent}`, and a paradigm that evaluates it: docs/checkpoints.md")


def _say(path: Path, imported: "Imported") -> None:
    vector = imported.vector
    print(f"{path}: {len(vector.tensors)} tensors moved, ‖τ‖ {vector.norm():.4g}, of ‖θ₀‖ {imported.relative_norm:.2%}")
    print(f"moved: {_listed(list(vector.tensors))}")
    if imported.unmoved:
        print(f"equal to θ₀: {_listed(imported.unmoved)}")
    if imported.absent:
        note(f"not in the file, so they stay at θ₀: {_listed(imported.absent)}")
    if not imported.base_is_known:
        note("the file does not carry the θ₀ that it was trained from, so nobody can check here that it is this one")
    if imported.relative_norm > _FAR:
        note("θ lies as far from θ₀ as unrelated weights do; make sure that --model is what it was trained from")
    if imported.rounded:
        note("the file is of lower precision than float32, so τ holds its rounding errors")


def _listed(names: list[str]) -> str:
    """The names, those of all blocks as one: ``transformer.resblocks.*.ln_1.weight``."""
    return ", ".join(dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name) for name in names))
