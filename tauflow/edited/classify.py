"""Classify pictures with an edited image encoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from artifacts import layout
from artifacts.evaluation.edit_spaces import read_encoder, read_vectors
from pipeline.config import Parameters
from pipeline.editing import TaskVector, read_task_vector, sum_vectors
from pipeline.editing.spaces import EditSpace, TangentSpace, WeightSpace
from pipeline.errors import UserError
from pipeline.io.progress import progress
from pipeline.models import load_model_definition
from pipeline.models.devices import prepare_device
from pipeline.models.encoders import ImageEncoder, load_clip
from pipeline.models.heads import Head, build_head, read_head
from pipeline.preparation.decoding import decode
from pipeline.sources.image_files import is_hidden, is_image
from pipeline.tasks.text import printable
from tauflow.dvc.verification import check_origin
from tauflow.edited.edit import Edited, check_vector
from tauflow.edited.finite_space import FiniteSpace


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """Return the named files and the image files below every named folder, sorted within the folder.

    Raises:
        UserError: a path does not exist, or a folder holds no image.
    """
    pictures = []
    for path in paths:
        if not path.exists():
            raise UserError(f"{printable(path)}: no such file or folder; name pictures, or folders of pictures")
        if not path.is_dir():
            pictures.append(path)
            continue
        below = [
            file
            for file in sorted(path.rglob("*"))
            if file.is_file() and is_image(file) and not any(map(is_hidden, (file, *file.relative_to(path).parents)))
        ]
        if not below:
            raise UserError(f"{printable(path)}: no image files below this folder")
        pictures += below
    return pictures


@dataclass(frozen=True)
class EditedModel:
    """A model with one vector, Σ aₜ τₜ, added in weight or tangent space.

    image_size: height and width of the images that it takes.
    """

    name: str
    space: EditSpace
    image_size: int

    def head(self, task: str) -> Head:
        """Return the zero-shot head of a task of the study.

        Raises:
            UserError: the file is missing, damaged, or belongs to another task or model.
        """
        check_origin(layout.head(self.name, task))
        return read_head(layout.head(self.name, task))

    def head_of(self, classes: Sequence[str], template: str) -> Head:
        """Return a zero-shot head for any classes, made by the model's text tower.

        Raises:
            UserError: a file of the model is missing or damaged.
        """
        definition = load_model_definition(self.name)
        clip = load_clip(definition, layout.image_encoder(self.name), layout.text_encoder(self.name))
        return build_head(clip, definition, classes, [template])


def open_edited(params: Parameters, source: Edited | Path) -> EditedModel:
    """Return the model of an edit, in the space of its paradigm, or of a task vector in a file, in weight space.

    Raises:
        UserError: an artifact is missing or damaged, or does not fit another.
    """
    if isinstance(source, Path):
        vector = read_task_vector(source)
        encoder = read_encoder(vector.provenance.model)
        check_vector(f"--vector {source}", vector.provenance, encoder.sha256)
        return edited_model(params, encoder, vector, tangent=False)
    encoder = read_encoder(source.model)
    paradigm = params.paradigm[source.paradigm]
    vectors = read_vectors(source.model, params.vectors_of(source.paradigm), list(source.edit), encoder.sha256)
    total = sum_vectors(vector * source.edit[task] for task, vector in zip(source.edit, vectors, strict=True))
    return edited_model(params, encoder, total, tangent=paradigm.evaluated_in == "tangent")


def edited_model(params: Parameters, encoder: ImageEncoder, vector: TaskVector, tangent: bool) -> EditedModel:
    """Return a model with a vector added, in weight or tangent space.

    Raises:
        UserError: the model does not take square images of a fixed size.
    """
    name, size = vector.provenance.model, encoder.image_size
    if size is None or size[0] != size[1]:
        raise UserError(
            f"model {name}: does not take square images of a fixed size, so pictures cannot be fitted to it"
        )
    space = TangentSpace if tangent else WeightSpace
    return EditedModel(name, space(encoder, [vector], prepare_device(params.device), params.evaluation), size[0])


def classify_pictures(
    edited: EditedModel, head: Head, pictures: Sequence[Path]
) -> Float[np.ndarray, "pictures classes"]:
    """Return the probability of every class of the head for every picture.

    Pictures are decoded, resized and cropped as the pipeline does with a task's.

    Raises:
        UserError: a picture cannot be decoded, or an embedding is NaN or infinite.
    """
    space, head = FiniteSpace(edited.space), head.to(edited.space.device)
    ones = torch.ones(1, space.size)
    rows = []
    starts = range(0, len(pictures), space.batch_size)
    for start in progress(starts, "classifying", total=len(starts)):
        decoded = [_pixels(path, edited.image_size) for path in pictures[start : start + space.batch_size]]
        batch = torch.from_numpy(np.stack(decoded))
        rows += [head.logits(embeddings) for _, _, embeddings in space.embeddings(ones, [batch])]
    logits: Tensor = torch.cat(rows)
    return logits.double().softmax(dim=1).cpu().numpy()


def predictions_frame(
    pictures: Sequence[Path], classes: Sequence[str], probabilities: Float[np.ndarray, "pictures classes"], top: int
) -> pd.DataFrame:
    """Return the ``top`` most probable classes of every picture, best first: one row per picture and class.

    Columns: picture, class, probability in percent.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return pd.DataFrame(
        [
            {"picture": printable(path), "class": classes[index], "probability": f"{100 * row[index]:.1f}"}
            for path, row, best in zip(pictures, probabilities, order, strict=True)
            for index in best
        ]
    )


def _pixels(path: Path, size: int) -> UInt8[np.ndarray, "3 size size"]:
    try:
        return decode(path.read_bytes(), size, None)
    except OSError as error:
        raise UserError(f"{printable(path)}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{printable(path)}: {error}") from None
