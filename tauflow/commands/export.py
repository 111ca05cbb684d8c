"""``tauflow export``: an edited CLIP for open_clip or Hugging Face's classes."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tauflow.commands.console import checked_parameters, one_line_errors
from tauflow.commands.edit_options import EditOption, ModelOption, ParadigmOption, SumOption, chosen_edit
from tauflow.edits import edit_text


class Library(StrEnum):
    """For which library a model is written."""

    open_clip = "open_clip"
    huggingface = "huggingface"


def export(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to make.", show_default=False)],
    form: Annotated[Library, typer.Option("--format", "-f", help="Which library is to load it.")] = Library.open_clip,
    edit: EditOption = None,
    whole_sum: SumOption = False,
    model: ModelOption = None,
    paradigm: ParadigmOption = None,
) -> None:
    """Export a CLIP whose image encoder is edited, with its text tower and a card that says how it was made.

    Only paradigms that edit in weight space: their edit is an encoder with other weights (docs/checkpoints.md).

    For example: `tauflow export --edit icons=0.4,signs=-0.2 --format huggingface --out edited`.
    """
    parameters = checked_parameters()
    with one_line_errors():
        edited = chosen_edit("export", parameters, edit, whole_sum, model, paradigm)
        from tauflow.exporting import export_clip  # imports torch and open_clip

        export_clip(parameters, edited, form.value, out)
    print(f"{out}: {edit_text(edited.edit)} of {edited.model}, {edited.paradigm}, for {form.value}")
