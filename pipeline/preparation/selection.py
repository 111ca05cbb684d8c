"""Which images of a source become train, val and test."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.config import PrepareSettings
from pipeline.errors import UserError
from pipeline.preparation.raw import Indices, RawSplit
from pipeline.tasks import SPLITS, Split
from pipeline.tasks.splits import check_labels


@dataclass(frozen=True)
class Selection:
    """The images of a split: those of ``raw`` at ``indices``, which ascend."""

    raw: RawSplit
    indices: Indices

    def first(self, most: int | None, seed: int) -> "Selection":
        """At most so many: the first where the source's order is random already, else drawn with the seed."""
        if most is None or len(self.indices) <= most:
            return self
        if self.raw.shuffled:
            return Selection(self.raw, self.indices[:most])
        drawn = np.random.default_rng(seed).choice(len(self.indices), most, replace=False)
        return Selection(self.raw, self.indices[np.sort(drawn)])

    @property
    def labels(self) -> Indices:
        """Of its images, in order."""
        return self.raw.labels[self.indices]


def select(
    raw: Mapping[str, RawSplit], classes: int, settings: PrepareSettings, control: bool, where: str
) -> dict[Split, Selection]:
    """``train``, ``val`` and ``test`` of a task.

    A task that ships ``val`` keeps it; otherwise ``val`` is a fixed permutation's first share of ``train`` and is
    removed from it.

    Args:
        raw: what the source ships.
        classes: their number.
        settings: sizes and seed.
        control: whether it is the control task, of whose ``train`` a sample is enough.
        where: what errors begin with.

    Raises:
        UserError: a split is missing or empty, or a label has no class.
    """
    for name in ("train", "test"):
        if name not in raw:
            raise UserError(f"{where}: its source has no {name!r} split")
    splits: dict[Split, Selection] = {name: _all(raw[name]) for name in SPLITS if name in raw}
    if "val" not in splits:
        splits["train"], splits["val"] = _cut_val(splits["train"], settings)
    for name, split in splits.items():
        check_labels(split.labels, classes, f"{where}, split {name}")
        splits[name] = split.first(settings.max_images, settings.val_seed)
    if control:
        splits["train"] = splits["train"].first(settings.control_train_images, settings.val_seed)
    return {name: splits[name] for name in SPLITS}


def _all(raw: RawSplit) -> Selection:
    return Selection(raw, np.arange(len(raw.labels)))


def _cut_val(train: Selection, settings: PrepareSettings) -> tuple[Selection, Selection]:
    """Cut ``val_fraction`` of train, at most ``val_max`` images, off a permutation fixed by ``val_seed``."""
    count = len(train.indices)
    size = min(int(count * settings.val_fraction), settings.val_max)
    order = np.random.default_rng(settings.val_seed).permutation(count)
    return Selection(train.raw, np.sort(order[size:])), Selection(train.raw, np.sort(order[:size]))
