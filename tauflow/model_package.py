"""An edited encoder as files: its weights, in tangent space its task vector as well, and the heads of all tasks."""

import gc
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from pipeline.config import Parameters
from pipeline.editing import sum_vectors, write_task_vector
from pipeline.files import missing, write_arrays
from stages.edits import read_encoder, read_vectors, read_weight_space
from tauflow import layout

gc.enable()  # the package of the stages stops it for their start


def write_package(params: Parameters, model: str, paradigm: str, edit: Mapping[str, float], directory: Path) -> None:
    """Write what :mod:`tauflow.registered_model` reads.

    In weight space the encoder holds θ₀ + Σ aₜ τₜ; in tangent space it is θ₀, beside Σ aₜ τₜ, along which it is
    linearised. The heads are those of every task of the parameters and of the control.

    Raises:
        UserError: an artifact is missing or damaged, or does not fit another.
    """
    recipe = params.paradigm[paradigm].recipe
    encoder_path = directory / "image_encoder.safetensors"
    directory.mkdir(parents=True)
    if params.paradigm[paradigm].evaluated_in == "weight":
        coefficients = torch.tensor([edit.get(task, 0.0) for task in params.tasks])
        with read_weight_space(params, model, recipe).edited(coefficients) as encoder:
            arrays = {name: tensor.cpu().numpy() for name, tensor in encoder.visual.state_dict().items()}
            origin = {"model": model, "paradigm": paradigm, "edit": dict(edit), "base_sha256": encoder.sha256}
            write_arrays(encoder_path, arrays, origin)
    else:
        vectors = read_vectors(model, recipe, list(edit), read_encoder(model).sha256)
        total = sum_vectors(vector * edit[task] for task, vector in zip(edit, vectors, strict=True))
        write_task_vector(directory / "task_vector.safetensors", total)
        shutil.copy(layout.image_encoder(model), encoder_path)
    (directory / "heads").mkdir()
    for task in params.datasets:
        if not layout.head(model, task).exists():
            raise missing(layout.head(model, task))
        shutil.copy(layout.head(model, task), directory / "heads")
