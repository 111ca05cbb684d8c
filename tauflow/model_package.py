"""An edited encoder as files: its weights, in tangent space its task vector as well, and the heads of all tasks."""

import gc
import shutil
from pathlib import Path

import torch
from torch import Tensor

from pipeline.config import Parameters
from pipeline.editing import sum_vectors, write_task_vector
from pipeline.files import missing, write_arrays
from stages.edits import read_encoder, read_vectors, read_weight_space
from tauflow import layout
from tauflow.edits import Edited

gc.enable()  # the package of the stages stops it for their start


def write_package(params: Parameters, edited: Edited, directory: Path) -> None:
    """Write what :mod:`tauflow.registered_model` reads.

    In weight space the encoder holds θ₀ + Σ aₜ τₜ; in tangent space it is θ₀, beside Σ aₜ τₜ, along which it is
    linearised. The heads are those of every task of the parameters and of the control.

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
        recipe = params.paradigm[edited.paradigm].recipe
        vectors = read_vectors(model, recipe, list(edit), read_encoder(model).sha256)
        total = sum_vectors(vector * edit[task] for task, vector in zip(edit, vectors, strict=True))
        write_task_vector(directory / "task_vector.safetensors", total)
        shutil.copy(layout.image_encoder(model), encoder_path)
    (directory / "heads").mkdir()
    for task in params.datasets:
        if not layout.head(model, task).exists():
            raise missing(layout.head(model, task))
        shutil.copy(layout.head(model, task), directory / "heads")


def edited_weights(params: Parameters, edited: Edited) -> tuple[dict[str, Tensor], str]:
    """θ₀ + Σ aₜ τₜ of the image encoder on the CPU, of a paradigm in weight space; and the fingerprint of θ₀.

    Raises:
        UserError: an artifact is missing or damaged, or does not fit another.
    """
    coefficients = torch.tensor([edited.edit.get(task, 0.0) for task in params.tasks])
    space = read_weight_space(params, edited.model, params.paradigm[edited.paradigm].recipe)
    with space.edited(coefficients) as encoder:
        weights = {name: tensor.detach().cpu().clone() for name, tensor in encoder.visual.state_dict().items()}
        return weights, encoder.sha256
