"""Pack a task's splits: decode in parallel, write as a stream, count duplicates."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import PrepareSettings
from pipeline.errors import UserError, gigabytes
from pipeline.images import Split
from pipeline.io.arrays import write_streamed
from pipeline.io.files import require_space
from pipeline.io.progress import progress
from pipeline.preparation.duplicates import Digests, count_duplicates, count_two_labels
from pipeline.preparation.raw import RawSplit
from pipeline.preparation.selection import ChosenImages, choose_splits
from pipeline.tasks import TaskCard, TaskDefinition


@dataclass(frozen=True)
class Destination:
    """The paths of a task's splits and its card."""

    split: Callable[[Split], Path]
    card: Path


def prepare(
    definition: TaskDefinition,
    raw: Mapping[str, RawSplit],
    destination: Destination,
    settings: PrepareSettings,
    control: bool,
) -> TaskCard:
    """Write ``train``, ``val``, ``test`` and the card of a task, after printing how much disk they take.

    Images are resized to ``settings.resolution``, or stored unchanged if all have the same smaller size.

    Raises:
        UserError: a split is missing or empty, a label has no class, an image is broken, or the disk is too small.
    """
    where = f"task {definition.name}"
    splits = choose_splits(raw, len(definition.classes), settings, control, where)
    size = _size(splits, settings.resolution, where)
    _announce(definition.name, splits, size, destination)
    digests: dict[Split, Digests] = {name: Digests() for name in splits}
    for name, split in splits.items():
        metadata = {"task": definition.name, "version": definition.version, "split": name}
        _pack(destination.split(name), split, size, digests[name], metadata)
    duplicates = count_duplicates(digests)
    two_labels: dict[Split, int] = {
        name: count_two_labels(digests[name], split.labels) for name, split in splits.items()
    }
    _warn(where, splits, duplicates, two_labels, len(definition.classes))
    card = TaskCard.of(
        definition,
        counts={name: len(split.indices) for name, split in splits.items()},
        image_size=(size, size),
        val_seed=None if "val" in raw else settings.val_seed,
        duplicates=duplicates,
        two_labels=two_labels,
    )
    card.write(destination.card)
    return card


def _size(splits: Mapping[Split, ChosenImages], resolution: int | None, where: str) -> int:
    """Return the height and width of the packed images."""
    natives = {split.raw.native for split in splits.values()}
    native = natives.pop() if len(natives) == 1 else None
    if native is not None and (resolution is None or native <= resolution):
        return native
    if resolution is None:
        raise UserError(f"{where}: its images differ in size, and prepare.resolution is null; set it to the model's")
    return resolution


def _announce(task: str, splits: Mapping[Split, ChosenImages], size: int, destination: Destination) -> None:
    """Print the number of images and bytes, and check that they fit on the disk."""
    counts = {name: len(split.indices) for name, split in splits.items()}
    needed = sum(counts.values()) * 3 * size * size
    images = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    print(f"{task}: {images} images of {size} x {size} pixels take {gigabytes(needed)}", flush=True)
    require_space(destination.card.parent, needed, f"task {task}: its packed images")


def _pack(path: Path, split: ChosenImages, size: int, digests: Digests, metadata: Mapping[str, object]) -> None:
    shape = (len(split.indices), 3, size, size)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as executor:  # Pillow releases the GIL while decoding
        blocks = split.raw.images(split.indices, size, executor)
        shown = progress(digests.passing(blocks), f"packing {path}", total=-(-len(split.indices) // 64))
        write_streamed(path, "images", shape, shown, {"labels": split.labels}, metadata)


def _warn(
    where: str,
    splits: Mapping[Split, ChosenImages],
    duplicates: Mapping[str, int],
    two_labels: Mapping[Split, int],
    classes: int,
) -> None:
    """Print warnings about duplicates and about classes without images; nothing is dropped."""
    for pair, count in duplicates.items():
        if count:
            print(f"warning: {where}: {count} images of {pair.replace(' in ', ' are in ')} too, to the pixel")
    for name, split in splits.items():
        if two_labels[name]:
            print(f"warning: {where}: {two_labels[name]} images of {name} are in two classes, to the pixel")
        absent = classes - len(set(split.labels.tolist()))
        if absent:
            print(f"warning: {where}: {name} has no image of {absent} of the {classes} classes")
