"""Per-image results as files, so that intervals and paired differences need no second evaluation."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Bool

from pipeline.errors import UserError
from pipeline.files import read_arrays, write_arrays

Group = TypeVar("Group", bound=str)


def write_correct(
    path: Path, correct: Mapping[Group, Mapping[str, Bool[np.ndarray, " _"]]], metadata: Mapping[str, object]
) -> None:
    """Write which test images were classified correctly, by group (a setting, say) and task."""
    arrays = {f"{group}/{task}": c for group, tasks in correct.items() for task, c in tasks.items()}
    write_arrays(path, arrays, metadata)


def read_correct(path: Path, group: str) -> dict[str, Bool[np.ndarray, " _"]]:
    """One group of what :func:`write_correct` wrote, by task.

    Raises:
        UserError: the file is missing, damaged, or has no such group.
    """
    arrays, _ = read_arrays(path)
    prefix = f"{group}/"
    found = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    if not found:
        raise UserError(f"{path}: holds no {group!r} results; make it again with `dvc repro`")
    return found
