"""What stages read that run the encoder with edits: θ₀ and a recipe's task vectors."""

from collections.abc import Sequence

from pipeline.config import Parameters
from pipeline.devices import prepare_device
from pipeline.editing import TaskVector, read_task_vector
from pipeline.editing.spaces import TangentSpace, WeightSpace
from pipeline.errors import UserError
from pipeline.models import load_model_definition
from pipeline.models.encoders import ImageEncoder, load_image_encoder
from tauflow import layout


def read_encoder(model: str) -> ImageEncoder:
    """The pre-trained image encoder.

    Raises:
        UserError: a file is missing or damaged.
    """
    return load_image_encoder(load_model_definition(model), layout.image_encoder(model))


def read_vectors(model: str, recipe: str, tasks: Sequence[str], base_sha256: str) -> list[TaskVector]:
    """A recipe's task vectors in the order of the tasks.

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


def read_weight_space(params: Parameters, model: str, recipe: str) -> WeightSpace:
    """A recipe's task vectors, in the order of the tasks in the parameters, as edits of the weights.

    Raises:
        UserError: a file is missing or damaged, or a vector starts from another θ₀.
    """
    encoder = read_encoder(model)
    vectors = read_vectors(model, recipe, params.tasks, encoder.sha256)
    return WeightSpace(encoder, vectors, prepare_device(params.device), params.evaluation.edits)


def read_tangent_space(params: Parameters, model: str, recipe: str) -> TangentSpace:
    """The same as edits of the linearised encoder.

    Raises:
        UserError: a file is missing or damaged, or a vector starts from another θ₀.
    """
    encoder = read_encoder(model)
    vectors = read_vectors(model, recipe, params.tasks, encoder.sha256)
    return TangentSpace(encoder, vectors, prepare_device(params.device))
