"""Bringing other projects' checkpoints to where the pipeline takes imported task vectors from."""

from pathlib import Path

from pipeline.editing import write_task_vector
from pipeline.errors import UserError
from pipeline.foreign.checkpoint import read_foreign
from pipeline.foreign.importing import Imported, import_task_vector
from pipeline.models import load_model_definition
from pipeline.models.encoders import architecture_config, load_image_encoder
from tauflow import layout


def import_checkpoint(checkpoint: Path, model: str, recipe: str, task: str) -> tuple[Path, Imported]:
    """Write a checkpoint's task vector; returns where.

    Raises:
        UserError: the checkpoint cannot be read or is not of this model, θ₀ is missing, or the vector exists.
    """
    path = layout.imported(model, recipe, task)
    if path.exists():
        raise UserError(f"{path}: exists already; delete it, or choose another --name")
    definition = load_model_definition(model)
    quick_gelu = bool(architecture_config(definition).get("quick_gelu", False))
    encoder = load_image_encoder(definition, layout.image_encoder(model))
    imported = import_task_vector(read_foreign(checkpoint), encoder, quick_gelu, model, recipe, task)
    write_task_vector(path, imported.vector)
    return path, imported
