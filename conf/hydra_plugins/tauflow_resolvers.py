"""Resolvers for conf/: entries that follow from others, and the hash of an extension.

DVC loads this when it composes params.yaml (`plugins_path` in .dvc/config), before it runs an experiment.
"""

import hashlib
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

import pipeline
from pipeline.config import Choices, LegalNames, checked
from pipeline.config.derived import DERIVED, derive
from tauflow.composition import disown_reports, say_mistakes_in_one_line

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "pipeline"


def derived(key: str, *, _root_: Any) -> Any:
    """An entry of ``params.yaml`` that follows from others; before the first, these are checked."""
    if key == DERIVED[0]:
        chosen = OmegaConf.masked_copy(_root_, [name for name in _root_ if name not in DERIVED])
        checked(OmegaConf.to_container(chosen, resolve=True), Choices, _legal_names())
    return OmegaConf.create(derive(_root_)[key])


def _legal_names() -> LegalNames:
    """What this working copy defines, whichever copy is installed; the installed one, if it is only a conf/."""
    definitions = (LIBRARY if LIBRARY.is_dir() else Path(pipeline.__file__).parent) / "definitions"
    names = {kind: sorted(path.stem for path in (definitions / kind).glob("*.yaml")) for kind in ("tasks", "models")}
    return LegalNames(**names)


def sha256(path: str) -> str:
    """The hash of a file of this repository."""
    return hashlib.sha256((ROOT / path).read_bytes()).hexdigest()


OmegaConf.register_new_resolver("derived", derived, replace=True)
OmegaConf.register_new_resolver("sha256", sha256, replace=True)
say_mistakes_in_one_line()
disown_reports(ROOT)
