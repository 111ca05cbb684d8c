"""Edit spaces over a recipe's task vectors: θ₀ and τ, read from the study."""

from collections.abc import Mapping, Sequence

import torch

from artifacts import layout
from pipeline.config import EvaluationSettings, Parameters
from pipeline.editing import TaskVector, read_task_vector
from pipeline.editing.spaces import TangentSpace, WeightSpace
from pipeline.errors import UserError
from pipeline.models import load_model_definition
from pipeline.models.devices import prepare_device
from pipeline.models.encoders import ImageEncoder, load_image_encoder


def read_encoder(model: str) -> ImageEncoder:
    """Return the pre-trained image encoder of a model."""
    return load_image_encoder(load_model_definition(model), layout.image_encoder(model))


def read_vectors(model: str, recipe: str, tasks: Sequence[str], base_sha256: str) -> list[TaskVector]:
    """Return a recipe's task vectors in the order of the tasks.

    Raises:
        UserError: a file is missing or damaged, or a vector starts from another θ₀.
    """
    vectors = [read_task_vector(layout.task_vector(model, recipe, task)) for task in tasks]
    for task, vector in zip(tasks, vectors, strict=True):
        if vector.provenance.base_sha256 != base_sha256:
            raise UserError(
                f"{layout.task_vector(model, recipe, task)}: belongs to θ₀ {vector.provenance.base_sha256[:12]}, "
                f"not to {base_sha256[:12]} in {layout.image_encoder(model)}; run `dvc repro`"
            )
    return vectors


def read_weight_space(
    params: Parameters, model: str, recipe: str, kind: type[WeightSpace] = WeightSpace
) -> WeightSpace:
    """Return a recipe's task vectors, in the parameters' order of tasks, as edits of the weights.

    Raises:
        UserError: a file is missing or damaged, or a vector starts from another θ₀.
    """
    return kind(*_read_contents(params, model, recipe))


def read_tangent_space(params: Parameters, model: str, recipe: str) -> TangentSpace:
    """Return a recipe's task vectors, in the parameters' order of tasks, as edits of the linearised encoder.

    Raises:
        UserError: a file is missing or damaged, or a vector starts from another θ₀.
    """
    return TangentSpace(*_read_contents(params, model, recipe))


def _read_contents(
    params: Parameters, model: str, recipe: str
) -> tuple[ImageEncoder, list[TaskVector], torch.device, EvaluationSettings]:
    """Return the arguments of a space: its encoder and task vectors, its device and its settings."""
    encoder = read_encoder(model)
    vectors = read_vectors(model, recipe, params.tasks, encoder.sha256)
    return encoder, vectors, prepare_device(params.device), params.evaluation


# The spaces whose inputs are images, by the name that a paradigm's `evaluated_in` gives them. In tangent space, edits
# are made from stored features instead.
SPACES: Mapping[str, type[WeightSpace]] = {"weight": WeightSpace}
