"""Select the images of a source that become train, val and test."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.config import PrepareSettings
from pipeline.errors import UserError
from pipeline.images import SPLITS, Split
from pipeline.images.splits import check_labels
from pipeline.preparation.raw import Indices, RawSplit


@dataclass(frozen=True)
class ChosenImages:
    """The images of a split: those of ``raw`` at ``indices``, which ascend."""

    raw: RawSplit
    indices: Indices

    def first(self, most: int | None, seed: int) -> "ChosenImages":
        """Return at most ``most`` images: the first if the source's order is random, else drawn with the seed."""
        if most is None or len(self.indices) <= most:
            return self
        if self.raw.shuffled:
            return ChosenImages(self.raw, self.indices[:most])
        drawn = np.random.default_rng(seed).choice(len(self.indices), most, replace=False)
        return ChosenImages(self.raw, self.indices[np.sort(drawn)])

    @property
    def labels(self) -> Indices:
        """Return the labels of the selected images, in order."""
        return self.raw.labels[self.indices]


def choose_splits(
    raw: Mapping[str, RawSplit], classes: int, settings: PrepareSettings, control: bool, where: str
) -> dict[Split, ChosenImages]:
    """Return ``train``, ``val`` and ``test`` of a task.

    A ``val`` that the source ships is kept; otherwise ``val`` is the first part of a fixed permutation of ``train``
    and is removed from it.

    Args:
        raw: the splits that the source ships.
        classes: the number of classes.
        settings: sizes and seed.
        control: whether this is the control task, whose ``train`` is only sampled.
        where: prefix of error messages.

    Raises:
        UserError: a split is missing or empty, or a label is out of range.
    """
    for name in ("train", "test"):
        if name not in raw:
            raise UserError(f"{where}: its source has no {name!r} split")
    splits: dict[Split, ChosenImages] = {name: _all(raw[name]) for name in SPLITS if name in raw}
    if "val" not in splits:
        splits["train"], splits["val"] = _cut_val(splits["train"], settings)
    for name, split in splits.items():
        check_labels(split.labels, classes, f"{where}, split {name}")
        splits[name] = split.first(settings.max_images, settings.val_seed)
    if control:
        splits["train"] = splits["train"].first(settings.control_train_images, settings.val_seed)
    return {name: splits[name] for name in SPLITS}


def _all(raw: RawSplit) -> ChosenImages:
    return ChosenImages(raw, np.arange(len(raw.labels)))


def _cut_val(train: ChosenImages, settings: PrepareSettings) -> tuple[ChosenImages, ChosenImages]:
    """Cut ``val_fraction`` of train, at most ``val_max`` images, from a permutation fixed by ``val_seed``."""
    count = len(train.indices)
    size = min(int(count * settings.val_fraction), settings.val_max)
    order = np.random.default_rng(settings.val_seed).permutation(count)
    return ChosenImages(train.raw, np.sort(order[size:])), ChosenImages(train.raw, np.sort(order[:size]))
