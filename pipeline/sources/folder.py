"""Pack a task's images from a local directory into one parquet file per split, in the form of the hub."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError
from pipeline.images import SPLITS
from pipeline.io.files import atomic_write
from pipeline.sources.image_files import Contents, ImageFolder, Labelled, cannot_be_read, is_directory
from pipeline.sources.record import SplitCounts
from pipeline.tasks import TaskDefinition
from pipeline.tasks.registry import FolderSource
from pipeline.tasks.text import printable

_SCHEMA = pa.schema({"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "label": pa.int64()})
_ROWS = 64
_TEST_SEED = 0


def pack_folder(
    definition: TaskDefinition, source: FolderSource, root: Path, destination: Path
) -> dict[str, SplitCounts]:
    """Write ``<split>/images.parquet`` for every split of a folder; ``test`` is cut from ``train`` if missing.

    Args:
        definition: the task.
        source: its source.
        root: the repository's root, to which ``source.path`` is relative.
        destination: the directory of the splits.

    Returns:
        Number of images packed and of files left out, by split.

    Raises:
        UserError: the directory is missing, its directories are not the classes, its content is ambiguous, or a file
            cannot be read.
    """
    folder = root / source.path
    where = f"task {definition.name}"
    if not is_directory(folder, where):
        raise UserError(f"{where}: {printable(folder)}: no such directory; correct source.path")
    images = ImageFolder(folder, _labels(definition, source), where)
    directories = images.splits()
    if directories and "train" not in directories:
        raise UserError(f"{where}: {printable(folder)} has {', '.join(directories)} but no train; add it")
    splits = {
        split: images.classes(directory).with_left_out(images.outside_classes(directory))
        for split, directory in (directories or {"train": folder}).items()
    }
    if directories:
        splits["train"] = splits["train"].with_left_out(images.outside_classes(folder))
    _check_complete(images, list(splits.values()))
    origin = {split: f"from {printable(path.name)}/" for split, path in (directories or {"train": folder}).items()}
    if "test" not in splits:
        train, test = _cut_test(splits["train"].images, source.test_fraction)
        splits |= {"train": replace(splits["train"], images=train), "test": Contents(test)}
        origin["test"] = "drawn at random, as there is no directory of test images"
    splits = {split: splits[split] for split in SPLITS if split in splits}
    for split, contents in splits.items():
        if not contents.images:
            left_out = ", ".join(each.describe_left_out(folder) for each in splits.values() if each.left_out)
            also = f"; left out: {left_out}" if left_out else ""
            raise UserError(f"{where}: {printable(folder)} has too few images for {split}; add some{also}")
    for split, contents in splits.items():
        _write(destination / split / "images.parquet", folder, contents.images, where)
        print(
            f"{where}, split {split}: {len(contents.images)} images {origin[split]}; "
            f"left out: {contents.describe_left_out(folder)}"
        )
    return {
        split: SplitCounts(
            images=len(contents.images),
            left_out={reason: len(paths) for reason, paths in contents.left_out.items()},
        )
        for split, contents in splits.items()
    }


def _check_complete(folder: ImageFolder, splits: list[Contents]) -> None:
    """Check that every file below the folder was taken or left out."""
    taken = {path for contents in splits for path, _ in contents.images}
    left_out = {path for contents in splits for paths in contents.left_out.values() for path in paths}
    lost = sorted(set(folder.files_below(folder.root)) - taken - left_out)
    if lost:
        raise UserError(f"{folder.where}: {printable(lost[0])} was added while the folder was read; run again")


def _labels(definition: TaskDefinition, source: FolderSource) -> dict[str, int]:
    """Return the label of each directory, which has its class's name, with spaces or underscores, unless listed."""
    if source.directories is not None:
        return {name: label for label, name in enumerate(source.directories)}
    classes = list(enumerate(definition.classes))
    return {name: label for label, name in classes} | {name.replace(" ", "_"): label for label, name in classes}


def _cut_test(images: Labelled, fraction: float) -> tuple[Labelled, Labelled]:
    size = round(len(images) * fraction)
    order = np.random.default_rng(_TEST_SEED).permutation(len(images))
    return [images[i] for i in np.sort(order[size:])], [images[i] for i in np.sort(order[:size])]


def _write(path: Path, folder: Path, images: Labelled, where: str) -> None:
    with atomic_write(path) as temporary:
        with pq.ParquetWriter(temporary, _SCHEMA, compression="none") as writer:
            for rows in _batches(images):
                content = [{"bytes": _content(file, where), "path": str(file.relative_to(folder))} for file, _ in rows]
                columns = [pa.array(content, _SCHEMA.field("image").type), pa.array([label for _, label in rows])]
                writer.write_batch(pa.record_batch(columns, _SCHEMA))
        packed = pq.read_metadata(temporary).num_rows
        if packed != len(images):
            raise RuntimeError(f"{packed} rows were written of {len(images)} images")


def _content(file: Path, where: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise cannot_be_read(file, error, where) from None


def _batches(images: Labelled) -> Iterator[Labelled]:
    for start in range(0, len(images), _ROWS):
        yield images[start : start + _ROWS]
