"""Resolvers for conf/: entries that follow from others, and the hash of an extension.

DVC loads this when it composes params.yaml (`plugins_path` in .dvc/config).
"""

import hashlib
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.config.derived import derive

ROOT = Path(__file__).parents[2]


def derived(key: str, *, _root_: Any) -> Any:
    """An entry of ``params.yaml`` that follows from others."""
    recipe_of = {name: paradigm.recipe for name, paradigm in _root_.paradigm.items()}
    regularised = {name: recipe.regulariser is not None for name, recipe in _root_.recipe.items()}
    entries = derive(_root_.models, _root_.tasks, _root_.control, _root_.paradigms, recipe_of, regularised)
    return OmegaConf.create(entries[key])


def sha256(path: str) -> str:
    """The hash of a file of this repository."""
    return hashlib.sha256((ROOT / path).read_bytes()).hexdigest()


OmegaConf.register_new_resolver("derived", derived, replace=True)
OmegaConf.register_new_resolver("sha256", sha256, replace=True)
