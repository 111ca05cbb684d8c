"""Export an edited or merged CLIP as a folder for other libraries, with a model card."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from artifacts import layout
from pipeline.config import Parameters
from pipeline.editing import TaskVector, read_task_vector
from pipeline.errors import UserError, one_line
from pipeline.foreign.export import OPEN_CLIP_WEIGHTS, Format, write_clip
from pipeline.io.files import file_sha256, write_text
from pipeline.models import ModelDefinition, load_model_definition
from pipeline.models.checkpoints import Provenance, read_base
from pipeline.tasks import TaskCard
from tauflow.edited.edit import Edited, check_vector, edit_text
from tauflow.edited.hub import card_metadata
from tauflow.edited.package import edited_tangent, edited_weights

_CARD = Path(__file__).with_name("model_card.md.j2")
# The file with Σ α τ beside θ₀, for an edit in tangent space.
TANGENT = "tangent.safetensors"


@dataclass(frozen=True)
class Ingredient:
    """A task vector of the edit, or a checkpoint of the merge.

    alpha: its coefficient.
    origin: provenance of its task vector.
    sha256: hash of its file.
    card: card of its task, if present.
    """

    task: str
    alpha: float
    origin: Provenance
    sha256: str
    card: TaskCard | None

    @classmethod
    def of_task(cls, task: str, alpha: float, origin: Provenance, sha256: str) -> "Ingredient":
        """Return an ingredient with its task's card."""
        path = layout.task_card(task)  # a sum of several tasks has none
        return cls(task, alpha, origin, sha256, TaskCard.read(path) if path.exists() else None)


def export_clip(params: Parameters, edited: Edited, form: Format, out: Path) -> None:
    """Write the whole CLIP, its image encoder edited, into the new folder ``out``.

    Raises:
        UserError: ``out`` exists or cannot be created, an artifact is missing or damaged, an edited weight is NaN or
            infinite, or the format cannot express the model, as Hugging Face's cannot in tangent space.
    """
    in_tangent_space = params.paradigm[edited.paradigm].evaluated_in == "tangent"
    if in_tangent_space and form != "open_clip":
        raise UserError(
            f"--paradigm {edited.paradigm}: edits in tangent space, f(x; θ₀) + J(x)Στ, which weights alone cannot "
            "express; `--format open_clip` writes θ₀ with its tangent"
        )
    check_new(out)
    definition = load_model_definition(edited.model)
    tangent = edited_tangent(params, edited) if in_tangent_space else None
    image, base_sha256 = read_base(layout.image_encoder(edited.model)) if tangent else edited_weights(params, edited)
    text, _ = read_base(layout.text_encoder(edited.model))
    merging = params.paradigm[edited.paradigm].merging
    entries = {
        "paradigm": edited.paradigm,
        "merging": str(merging) if merging else None,
        "edit_text": edit_text(edited.edit),
        "merge": None,
        "tangent": TANGENT if tangent else None,
    }
    card = model_card(definition, form, base_sha256, _ingredients(params, edited), entries)
    with new_folder(out) as folder:
        write_model(folder, form, definition, image, text, card)
        if tangent:
            save_file({name: tensor.contiguous() for name, tensor in tangent.tensors.items()}, folder / TANGENT)


def export_vector(path: Path, form: Format, out: Path) -> TaskVector:
    """Write the whole CLIP, its image encoder at θ₀ + τ, into the new folder ``out``; return τ, read from ``path``.

    Raises:
        UserError: as for :func:`export_clip`, or τ was trained in tangent space or starts from another θ₀.
    """
    check_new(out)
    vector = read_task_vector(path)
    origin = vector.provenance
    definition = load_model_definition(origin.model)
    base, base_sha256 = read_base(layout.image_encoder(origin.model))
    check_vector(f"--vector {path}", origin, base_sha256)
    image = vector.apply(base)
    text, _ = read_base(layout.text_encoder(origin.model))
    tasks = " + ".join(origin.tasks)
    entries = {"paradigm": None, "merging": None, "edit_text": tasks, "merge": None, "tangent": None}
    ingredients = [Ingredient.of_task(tasks, 1.0, origin, file_sha256(path))]
    card = model_card(definition, form, base_sha256, ingredients, entries)
    with new_folder(out) as folder:
        write_model(folder, form, definition, image, text, card)
    return vector


def check_new(out: Path) -> None:
    """Check that the output folder does not exist yet.

    Raises:
        UserError: the path exists.
    """
    if out.exists():
        raise UserError(f"--out {out}: exists already; choose another folder")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``out`` if the block succeeds and is removed if not.

    Raises:
        UserError: a file in it cannot be written.
    """
    created = [parent for parent in out.parents if not parent.exists()]
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        yield temporary
        temporary.chmod(0o755)
        temporary.rename(out)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise UserError(f"--out {out}: cannot be written: {reason}; choose another folder") from None
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
        for parent in created if not out.exists() else []:
            with suppress(OSError):
                parent.rmdir()


def write_model(
    folder: Path,
    form: Format,
    definition: ModelDefinition,
    image: Mapping[str, Tensor],
    text: Mapping[str, Tensor],
    card: str,
) -> None:
    """Write a CLIP and its card into a folder.

    Raises:
        UserError: a weight is NaN or infinite, or the format cannot express the model.
    """
    write_clip(folder, form, definition, image, text)
    write_text(folder / "README.md", card)


def model_card(
    definition: ModelDefinition,
    form: Format,
    base_sha256: str,
    ingredients: Sequence[Ingredient],
    entries: Mapping[str, Any],
    accuracies: Mapping[str, float] | None = None,
) -> str:
    """Return the text of a card.

    Args:
        definition: the model.
        form: the library that will load it.
        base_sha256: fingerprint of θ₀.
        ingredients: the task vectors or checkpoints that the model was made from.
        entries: values for the template, of an edit (``paradigm``, ``merging``, ``edit_text``) or of a merge
            (``merge``).
        accuracies: accuracies on test images by task, if the model was evaluated.
    """
    merged = entries["merge"] is not None
    metadata = card_metadata(
        definition,
        form,
        [task for ingredient in ingredients for task in ingredient.origin.tasks],
        name=f"{definition.name}, {'merged' if merged else 'edited'}",
        merged=merged,
        imported=any(ingredient.origin.imported_from for ingredient in ingredients),
        accuracies=accuracies or {},
    )
    template = Template(_CARD.read_text(encoding="utf-8"), undefined=StrictUndefined, keep_trailing_newline=True)
    return template.render(
        definition=definition,
        weights=definition.weights,
        form=form,
        base_sha256=base_sha256,
        ingredients=ingredients,
        open_clip_weights=OPEN_CLIP_WEIGHTS,
        version=version("tauflow"),
        metadata=metadata,
        accuracies=accuracies or {},
        **entries,
    )


def _ingredients(params: Parameters, edited: Edited) -> list[Ingredient]:
    recipe = params.vectors_of(edited.paradigm)
    paths = {task: layout.task_vector(edited.model, recipe, task) for task in edited.edit}
    return [
        Ingredient.of_task(task, edited.edit[task], read_task_vector(path).provenance, file_sha256(path))
        for task, path in paths.items()
    ]
