"""Compositions of params.yaml, as ``dvc exp run -S`` makes them."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tauflow.dvc.composition import compose

Content = dict[str, Any]


@pytest.fixture(scope="session")
def composed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Content]:
    """Composes with overrides, in a copy of ``conf/``."""
    copied = tmp_path_factory.mktemp("composition")
    shutil.copytree(root / "conf", copied / "conf", ignore=shutil.ignore_patterns("__pycache__"))

    def composed_with(*overrides: str) -> Content:
        compose(copied, overrides)
        return yaml.safe_load((copied / "params.yaml").read_text(encoding="utf-8"))

    return composed_with


@pytest.fixture(scope="session")
def committed(study_parameters: Path) -> Content:
    """The parameters of the committed study; not to be changed."""
    return yaml.safe_load(study_parameters.read_text(encoding="utf-8"))


@pytest.fixture
def content(committed: Content) -> Content:
    """The same, to be changed."""
    return copy.deepcopy(committed)
