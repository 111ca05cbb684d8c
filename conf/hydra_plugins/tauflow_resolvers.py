"""Resolvers for conf/: derived entries of params.yaml, and the hash of an extension.

DVC loads this module when it composes params.yaml (`plugins_path` in .dvc/config), before it runs an experiment.
"""

import hashlib
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

import tauflow  # noqa: F401 (first: it lets Python find the library, and refuses another package called `pipeline`)

# isort: split
import pipeline
from pipeline.config import Choices, LegalNames, checked
from pipeline.config.derived import derive
from pipeline.config.names import short
from pipeline.config.validation import check_file_name
from pipeline.errors import UserError
from tauflow.dvc.composition import protect_reports, shorten_dvc_errors
from tauflow.dvc.guard import replace_files

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "pipeline"


def derived(*, _root_: Any) -> Any:
    """Check the other sections of ``params.yaml``, and return the derived one."""
    for path in sorted((ROOT / "conf").glob("*/*.yaml")):
        check_file_name(path.parent.relative_to(ROOT).as_posix(), path.stem)
    chosen = OmegaConf.masked_copy(_root_, [name for name in _root_ if name != "derived"])
    choices = checked(OmegaConf.to_container(chosen, resolve=True), Choices, _legal_names())
    if choices.merged_paradigms():
        from pipeline.merging import check_mergings  # imports torch

        check_mergings(choices, ROOT)
    return OmegaConf.create(derive(choices).model_dump(mode="json"))


def _legal_names() -> LegalNames:
    """Return the names that this working copy defines, or those of the installed library if it has only a conf/."""
    definitions = (LIBRARY if LIBRARY.is_dir() else Path(pipeline.__file__).parent) / "definitions"
    tasks = sorted(path.stem for path in (definitions / "tasks").glob("*.yaml"))
    models = sorted(path.parent.name for path in (definitions / "models").glob("*/model.yaml"))
    return LegalNames(tasks, models)


def sha256(path: str) -> str:
    """Return the SHA-256 of a file of this repository.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return hashlib.sha256((ROOT / path).read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"extension {short(path)}: {error.strerror}; name a file of this repository") from None


OmegaConf.register_new_resolver("derived", derived, replace=True)
OmegaConf.register_new_resolver("sha256", sha256, replace=True)
shorten_dvc_errors()
protect_reports(ROOT)
replace_files()
