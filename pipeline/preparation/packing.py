"""Packing a task's splits: decoded in parallel, written as a stream, checked for duplicates."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import PrepareSettings
from pipeline.errors import UserError
from pipeline.files import gigabytes, require_space, write_streamed
from pipeline.preparation.duplicates import Digests, count_duplicates
from pipeline.preparation.raw import RawSplit
from pipeline.preparation.selection import Selection, select
from pipeline.progress import progress
from pipeline.tasks import Split, TaskCard, TaskDefinition


@dataclass(frozen=True)
class Destination:
    """Where a task's splits and its card are written."""

    split: Callable[[Split], Path]
    card: Path


def prepare(
    definition: TaskDefinition,
    raw: Mapping[str, RawSplit],
    destination: Destination,
    settings: PrepareSettings,
    control: bool,
) -> TaskCard:
    """Write ``train``, ``val``, ``test`` and the card of a task; say how much disk they take before.

    Images are as large as ``settings.resolution``, or as they are where all have one smaller size.

    Raises:
        UserError: a split is missing or empty, a label has no class, an image is broken, or the disk is too small.
    """
    where = f"task {definition.name}"
    splits = select(raw, len(definition.classes), settings, control, where)
    size = _size(splits, settings.resolution, where)
    _announce(definition.name, splits, size, destination)
    digests: dict[Split, Digests] = {name: Digests() for name in splits}
    for name, split in splits.items():
        metadata = {"task": definition.name, "version": definition.version, "split": name}
        _pack(destination.split(name), split, size, digests[name], metadata)
    duplicates = count_duplicates(digests)
    _warn(where, splits, duplicates, len(definition.classes))
    card = TaskCard.of(
        definition,
        counts={name: len(split.indices) for name, split in splits.items()},
        image_size=(size, size),
        val_seed=None if "val" in raw else settings.val_seed,
        duplicates=duplicates,
    )
    card.write(destination.card)
    return card


def _size(splits: Mapping[Split, Selection], resolution: int | None, where: str) -> int:
    """Height and width of the packed images."""
    natives = {split.raw.native for split in splits.values()}
    native = natives.pop() if len(natives) == 1 else None
    if native is not None and (resolution is None or native <= resolution):
        return native
    if resolution is None:
        raise UserError(f"{where}: its images differ in size, and prepare.resolution is null; set it to the model's")
    return resolution


def _announce(task: str, splits: Mapping[Split, Selection], size: int, destination: Destination) -> None:
    """Say what will be written, and refuse what does not fit."""
    counts = {name: len(split.indices) for name, split in splits.items()}
    needed = sum(counts.values()) * 3 * size * size
    images = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    print(f"{task}: {images} images of {size} x {size} pixels take {gigabytes(needed)}", flush=True)
    require_space(destination.card.parent, needed, f"task {task}: its packed images")


def _pack(path: Path, split: Selection, size: int, digests: Digests, metadata: Mapping[str, object]) -> None:
    shape = (len(split.indices), 3, size, size)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as executor:  # Pillow frees the interpreter while it decodes
        blocks = split.raw.images(split.indices, size, executor)
        shown = progress(digests.passing(blocks), f"packing {path}", total=-(-len(split.indices) // 64))
        write_streamed(path, "images", shape, shown, {"labels": split.labels}, metadata)


def _warn(where: str, splits: Mapping[Split, Selection], duplicates: Mapping[str, int], classes: int) -> None:
    """Say what is wrong with the data but does not stop: nothing is dropped silently."""
    for pair, count in duplicates.items():
        if count:
            print(f"warning: {where}: {count} images of {pair.replace(' in ', ' are in ')} too, to the pixel")
    for name, split in splits.items():
        absent = classes - len(set(split.labels.tolist()))
        if absent:
            print(f"warning: {where}: {name} has no image of {absent} of the {classes} classes")
