"""Splits of a task as files."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.errors import UserError
from pipeline.images.images import Images, LabelledImages, Labels
from pipeline.io.arrays import map_arrays, write_arrays

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


def check_labels(labels: Labels, classes: int, where: str) -> None:
    """Check that a split has images, and that each label names one of the classes.

    Raises:
        UserError: naming ``where``.
    """
    if len(labels) == 0:
        raise UserError(f"{where}: no images")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        wrong = high if high >= classes else low
        raise UserError(f"{where}: label {wrong} but only {classes} classes, so labels go from 0 to {classes - 1}")


def write_split(path: Path, split: LabelledImages, metadata: dict[str, Any]) -> None:
    """Write a split as one file; ``metadata`` identifies the task, its version and the split."""
    write_arrays(path, {"images": split.images, "labels": split.labels}, metadata)


def read_split(path: Path, classes: int) -> LabelledImages:
    """Read a split. Its images are mapped into memory, which only the images that are used take.

    Raises:
        UserError: the file is missing, damaged, not a split, or has a label without a class.
    """
    split = _read(path)
    check_labels(split.labels, classes, str(path))
    return split


def read_unlabelled(path: Path) -> Images:
    """Return the images of a split, ``[n, 3, height, width]``, without its labels."""
    return _read(path).images


def _read(path: Path) -> LabelledImages:
    arrays, _ = map_arrays(path)
    wrong = _why_no_split(arrays)
    if wrong:
        raise UserError(f"{path}: not a split of images and labels ({wrong}); run `dvc repro` again")
    return LabelledImages(arrays["images"], arrays["labels"])


def _why_no_split(arrays: dict[str, np.ndarray]) -> str | None:
    if set(arrays) != {"images", "labels"}:
        return f"it holds {sorted(arrays)}"
    images, labels = arrays["images"], arrays["labels"]
    if images.dtype != np.uint8 or images.ndim != 4:
        return f"images are {images.dtype} of shape {images.shape}"
    if labels.dtype != np.int64 or labels.ndim != 1:
        return f"labels are {labels.dtype} of shape {labels.shape}"
    if len(images) != len(labels):
        return f"{len(images)} images but {len(labels)} labels"
    return None
