"""Correctness per image as files, so that intervals and paired differences need no second evaluation."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Bool

from pipeline.errors import UserError
from pipeline.io.arrays import read_arrays, write_arrays

Group = TypeVar("Group", bound=str)


def write_correct(
    path: Path, correct: Mapping[Group, Mapping[str, Bool[np.ndarray, " _"]]], metadata: Mapping[str, object]
) -> None:
    """Write which test images were classified correctly, by group (such as a setting) and task."""
    arrays = {f"{group}/{task}": c for group, tasks in correct.items() for task, c in tasks.items()}
    write_arrays(path, arrays, metadata)


def read_correct(path: Path, group: str) -> dict[str, Bool[np.ndarray, " _"]]:
    """Read one group of a file written by :func:`write_correct`, by task.

    Raises:
        UserError: the file is missing, damaged, or has no such group.
    """
    arrays, _ = read_arrays(path)
    prefix = f"{group}/"
    correct = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    if not correct:
        raise UserError(f"{path}: has no results for {group!r}; recreate it with `dvc repro`")
    return correct
