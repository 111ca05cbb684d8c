"""Splits of a task as files, and the rule that cuts ``val`` from ``train``."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.config import PrepareSettings
from pipeline.errors import UserError
from pipeline.files import read_arrays, write_arrays
from pipeline.tasks.images import Images, LabelledImages
from pipeline.tasks.registry import TaskDefinition

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


def prepare_splits(
    raw: dict[str, LabelledImages], definition: TaskDefinition, settings: PrepareSettings
) -> dict[Split, LabelledImages]:
    """``train``, ``val`` and ``test`` of a task.

    A task that ships ``val`` keeps it; otherwise ``val`` is a fixed permutation's first share of ``train``
    and is removed from it. Labels are checked, and no image of ``val`` or ``test`` may stand in ``train``.

    Raises:
        UserError: a split is missing or empty, or a label has no class.
    """
    for name in ("train", "test"):
        if name not in raw:
            raise UserError(f"task {definition.name}: its source has no {name!r} split")
    splits: dict[Split, LabelledImages] = {"train": raw["train"], "test": raw["test"]}
    if "val" in raw:
        splits["val"] = raw["val"]
    else:
        splits["train"], splits["val"] = _cut_val(raw["train"], settings)
    for name, split in splits.items():
        check_labels(split, len(definition.classes), f"task {definition.name}, split {name}")
        if settings.max_images is not None:
            splits[name] = split.take(np.arange(min(settings.max_images, len(split))))
    return {name: splits[name] for name in SPLITS}


def _cut_val(train: LabelledImages, settings: PrepareSettings) -> tuple[LabelledImages, LabelledImages]:
    """Cut ``val_fraction`` of train, at most ``val_max`` images, off a permutation fixed by ``val_seed``."""
    size = min(int(len(train) * settings.val_fraction), settings.val_max)
    order = np.random.default_rng(settings.val_seed).permutation(len(train))
    return train.take(np.sort(order[size:])), train.take(np.sort(order[:size]))


def check_labels(split: LabelledImages, classes: int, where: str) -> None:
    """Check that a split has images, and that each label names one of the classes.

    Raises:
        UserError: naming ``where``.
    """
    if len(split) == 0:
        raise UserError(f"{where}: no images")
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= classes:
        wrong = high if high >= classes else low
        raise UserError(f"{where}: label {wrong} but only {classes} classes, so labels go from 0 to {classes - 1}")


def write_split(path: Path, split: LabelledImages, metadata: dict[str, Any]) -> None:
    """Write a split as one file; ``metadata`` says which task, version and split it is."""
    write_arrays(path, {"images": split.images, "labels": split.labels}, metadata)


def read_split(path: Path, classes: int) -> LabelledImages:
    """Read a split.

    Raises:
        UserError: the file is missing, damaged, no split, or holds a label of no class.
    """
    split = _read(path)
    check_labels(split, classes, str(path))
    return split


def read_unlabelled(path: Path) -> Images:
    """The images of a split, ``[n, 3, height, width]``, for those who may not see its labels.

    Raises:
        UserError: the file is missing, damaged or no split.
    """
    return _read(path).images


def _read(path: Path) -> LabelledImages:
    arrays, _ = read_arrays(path)
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
