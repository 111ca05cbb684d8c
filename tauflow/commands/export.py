"""``tauflow export``: write an edited CLIP for open_clip or Hugging Face's classes."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UserError
from tauflow.commands.console import checked_parameters, one_line_errors
from tauflow.commands.edit_options import EditOption, ModelOption, ParadigmOption, SumOption, VectorOption, chosen_edit
from tauflow.edited.edit import edit_text


class Library(StrEnum):
    """The library that a model is written for."""

    open_clip = "open_clip"
    huggingface = "huggingface"


def export(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to create.", show_default=False)],
    form: Annotated[Library, typer.Option("--format", "-f", help="The library that will load it.")] = Library.open_clip,
    edit: EditOption = None,
    whole_sum: SumOption = False,
    model: ModelOption = None,
    paradigm: ParadigmOption = None,
    vector: VectorOption = None,
) -> None:
    """Export a CLIP with an edited image encoder, its text tower and a model card that says how it was made.

    In tangent space an edit is not a set of weights: for open_clip the folder then holds θ₀ and the tangent, and the
    card the lines that run them (docs/checkpoints.md).

    For example: `tauflow export --edit icons=0.4,signs=-0.2 --format huggingface --out edited`.
    """
    if vector is not None:
        with one_line_errors():
            if edit is not None or whole_sum or model is not None or paradigm is not None:
                raise UserError(
                    "export: --vector already names the edit; leave out --edit, --sum, --model and --paradigm"
                )
            from tauflow.edited.export import export_vector  # imports torch and open_clip

            origin = export_vector(vector, form.value, out).provenance
        print(f"{out}: {vector} of {origin.model}, {origin.recipe}, for {form.value}")
        return
    parameters = checked_parameters()
    with one_line_errors():
        edited = chosen_edit("export", parameters, edit, whole_sum, model, paradigm)
        from tauflow.edited.export import export_clip  # imports torch and open_clip

        export_clip(parameters, edited, form.value, out)
    print(f"{out}: {edit_text(edited.edit)} of {edited.model}, {edited.paradigm}, for {form.value}")
