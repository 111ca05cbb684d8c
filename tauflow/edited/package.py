"""Write an edited encoder as files: its weights, its task vector if in tangent space, and the heads of all tasks."""

import shutil
from pathlib import Path

import torch
from torch import Tensor

from artifacts import layout
from artifacts.evaluation.edit_spaces import read_encoder, read_vectors, read_weight_space
from pipeline.config import Parameters
from pipeline.editing import TaskVector, sum_vectors, write_task_vector
from pipeline.errors import missing
from pipeline.io.arrays import write_arrays
from pipeline.models.checkpoints import check_finite
from tauflow.edited.edit import Edited, edit_text


def write_package(params: Parameters, edited: Edited, directory: Path) -> None:
    """Write the files that :mod:`tauflow.edited.registered_model` reads.

    In weight space the encoder holds θ₀ + Σ aₜ τₜ; in tangent space it is θ₀, linearised along Σ aₜ τₜ,
    which is written beside it. Heads are those of all tasks of the parameters and of the control.

    Raises:
        UserError: an artifact is missing or damaged, or does not fit another.
    """
    model, edit = edited.model, edited.edit
    encoder_path = directory / "image_encoder.safetensors"
    directory.mkdir(parents=True)
    if params.paradigm[edited.paradigm].evaluated_in == "weight":
        weights, base_sha256 = edited_weights(params, edited)
        arrays = {name: tensor.numpy() for name, tensor in weights.items()}
        origin = {"model": model, "paradigm": edited.paradigm, "edit": dict(edit), "base_sha256": base_sha256}
        write_arrays(encoder_path, arrays, origin)
    else:
        write_task_vector(directory / "task_vector.safetensors", edited_tangent(params, edited))
        shutil.copy(layout.image_encoder(model), encoder_path)
    (directory / "heads").mkdir()
    for task in params.derived.datasets:
        if not layout.head(model, task).exists():
            raise missing(layout.head(model, task))
        shutil.copy(layout.head(model, task), directory / "heads")


def edited_tangent(params: Parameters, edited: Edited) -> TaskVector:
    """Return Σ aₜ τₜ, along which an edit in tangent space linearises the encoder.

    Raises:
        UserError: an artifact is missing or damaged, or does not fit another.
    """
    model, edit = edited.model, edited.edit
    vectors = read_vectors(model, params.vectors_of(edited.paradigm), list(edit), read_encoder(model).sha256)
    return sum_vectors(vector * edit[task] for task, vector in zip(edit, vectors, strict=True))


def edited_weights(params: Parameters, edited: Edited) -> tuple[dict[str, Tensor], str]:
    """Return the image encoder's weights θ₀ + Σ aₜ τₜ, on the CPU, and the fingerprint of θ₀; for weight space.

    Raises:
        UserError: an artifact is missing or damaged, or does not fit another.
    """
    coefficients = torch.tensor([edited.edit.get(task, 0.0) for task in params.tasks])
    space = read_weight_space(params, edited.model, params.vectors_of(edited.paradigm))
    with space.edited(coefficients) as encoder:
        weights = {name: tensor.detach().cpu().clone() for name, tensor in encoder.visual.state_dict().items()}
    check_finite(weights, f"--edit {edit_text(edited.edit)}", "choose smaller coefficients")
    return weights, encoder.sha256
