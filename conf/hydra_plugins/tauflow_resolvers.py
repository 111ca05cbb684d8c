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
    return OmegaConf.create(derive(_root_)[key])


def sha256(path: str) -> str:
    """The hash of a file of this repository."""
    return hashlib.sha256((ROOT / path).read_bytes()).hexdigest()


OmegaConf.register_new_resolver("derived", derived, replace=True)
OmegaConf.register_new_resolver("sha256", sha256, replace=True)
