"""CLIP models: their definitions, weights, encoders and zero-shot heads.

Importing :mod:`pipeline.models.encoders` or :mod:`pipeline.models.heads` loads open_clip (seconds), so they
are not re-exported here.
"""

from pipeline.models.registry import ModelDefinition, load_model_definition, model_names

__all__ = ["ModelDefinition", "load_model_definition", "model_names"]
