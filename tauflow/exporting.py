"""An edited CLIP as a folder for other libraries, with a card that says how it was made."""

import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from jinja2 import StrictUndefined, Template

from pipeline.config import Parameters
from pipeline.editing import read_task_vector
from pipeline.errors import UserError
from pipeline.files import file_sha256, write_text
from pipeline.foreign.export import OPEN_CLIP_WEIGHTS, Format, write_clip
from pipeline.models import ModelDefinition, load_model_definition
from pipeline.models.checkpoints import Provenance, read_base
from pipeline.tasks import TaskCard
from tauflow import layout
from tauflow.edits import Edited, edit_text
from tauflow.model_package import edited_weights

_CARD = Path(__file__).with_name("model_card.md.j2")


@dataclass(frozen=True)
class _Ingredient:
    """A task vector that went in, times α; the task's card, if it is here."""

    task: str
    alpha: float
    origin: Provenance
    sha256: str
    card: TaskCard | None


def export_clip(params: Parameters, edited: Edited, form: Format, out: Path) -> None:
    """Write the whole CLIP, its image encoder edited, into the new folder ``out``.

    Raises:
        UserError: the paradigm edits in tangent space, ``out`` exists or cannot be made, an artifact is missing or
            damaged, or the format cannot express the model.
    """
    if params.paradigm[edited.paradigm].evaluated_in != "weight":
        raise UserError(
            f"--paradigm {edited.paradigm}: edits in tangent space, f(x; θ₀) + J(x)Στ, which is no encoder with other "
            "weights; `tauflow register` keeps it as it is"
        )
    if out.exists():
        raise UserError(f"--out {out}: exists already; choose another folder")
    definition = load_model_definition(edited.model)
    image, base_sha256 = edited_weights(params, edited)
    text, _ = read_base(layout.text_encoder(edited.model))
    ingredients = _ingredients(params, edited)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}; choose another folder") from None
    try:
        write_clip(scratch, form, definition, image, text)
        write_text(scratch / "README.md", _card(definition, edited, form, base_sha256, ingredients))
        scratch.chmod(0o755)
        scratch.rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _ingredients(params: Parameters, edited: Edited) -> list[_Ingredient]:
    found = []
    for task, alpha in edited.edit.items():
        path = layout.task_vector(edited.model, params.paradigm[edited.paradigm].recipe, task)
        card = TaskCard.read(layout.task_card(task)) if layout.task_card(task).exists() else None
        found.append(_Ingredient(task, alpha, read_task_vector(path).provenance, file_sha256(path), card))
    return found


def _card(
    definition: ModelDefinition, edited: Edited, form: Format, base_sha256: str, ingredients: list[_Ingredient]
) -> str:
    template = Template(_CARD.read_text(encoding="utf-8"), undefined=StrictUndefined, keep_trailing_newline=True)
    return template.render(
        definition=definition,
        weights=definition.weights,
        edited=edited,
        edit_text=edit_text(edited.edit),
        form=form,
        base_sha256=base_sha256,
        ingredients=ingredients,
        open_clip_weights=OPEN_CLIP_WEIGHTS,
        version=version("tauflow"),
    )
