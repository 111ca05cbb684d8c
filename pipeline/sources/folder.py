"""A task's images from a directory on this machine: packed into one parquet file per split, as the hub has them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError
from pipeline.files import atomic_write
from pipeline.tasks import TaskDefinition
from pipeline.tasks.registry import FolderSource

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")

# Names under which directories of splits are known.
_SPLITS = {"train": ("train",), "val": ("val", "validation"), "test": ("test",)}
_SCHEMA = pa.schema({"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "label": pa.int64()})
_ROWS = 64
_TEST_SEED = 0

Labelled = list[tuple[Path, int]]


def pack_folder(definition: TaskDefinition, source: FolderSource, root: Path, destination: Path) -> None:
    """Write ``<split>/images.parquet`` for every split of a folder; ``test`` is cut off where it has none.

    Args:
        definition, source: the task and its source.
        root: the repository's root, which relative paths start from.
        destination: where the splits are written.

    Raises:
        UserError: the directory is missing, or its directories are not the classes.
    """
    folder = root / source.path
    where = f"task {definition.name}: {folder}"
    if not folder.is_dir():
        raise UserError(f"{where}: no such directory; correct source.path")
    splits = {name: _images(definition, source, directory) for name, directory in _split_directories(folder).items()}
    if not splits:
        splits = {"train": _images(definition, source, folder)}
    if "train" not in splits:
        raise UserError(f"{where}: has {', '.join(splits)} but no train; call a directory so")
    if "test" not in splits:
        splits["train"], splits["test"] = _cut_test(splits["train"], source.test_fraction)
    for name, images in splits.items():
        _write(destination / name / "images.parquet", folder, images)


def _split_directories(folder: Path) -> dict[str, Path]:
    return {split: folder / name for split, names in _SPLITS.items() for name in names if (folder / name).is_dir()}


def _images(definition: TaskDefinition, source: FolderSource, directory: Path) -> Labelled:
    """The images of a directory of classes with their labels, in a fixed order."""
    found = {path.name: path for path in sorted(directory.iterdir()) if path.is_dir() and not _hidden(path)}
    names = source.directories or [_match(name, found) for name in definition.classes]
    unknown, absent = sorted(set(found) - set(names)), [name for name in names if name not in found]
    if unknown or absent:
        said = [f"no directory {absent[0]!r}"] if absent else []
        said += [f"{unknown[0]!r} is no class"] if unknown else []
        raise UserError(
            f"task {definition.name}: {directory}: {' and '.join(said)}; name the directories as the classes, "
            "or list them in source.directories"
        )
    files = [(path, label) for label, name in enumerate(names) for path in sorted(found[name].rglob("*"))]
    files = [(path, label) for path, label in files if path.is_file() and not _hidden(path)]
    others = [path for path, _ in files if path.suffix.casefold() not in SUFFIXES]
    if others:
        print(f"warning: task {definition.name}: {len(others)} files are no images and left out, such as {others[0]}")
    return [(path, label) for path, label in files if path.suffix.casefold() in SUFFIXES]


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _match(name: str, found: dict[str, Path]) -> str:
    """The directory of a class: called so, or with underscores for its spaces."""
    return name if name in found else name.replace(" ", "_")


def _cut_test(images: Labelled, fraction: float) -> tuple[Labelled, Labelled]:
    size = round(len(images) * fraction)
    order = np.random.default_rng(_TEST_SEED).permutation(len(images))
    return [images[i] for i in np.sort(order[size:])], [images[i] for i in np.sort(order[:size])]


def _write(path: Path, folder: Path, images: Labelled) -> None:
    with atomic_write(path) as temporary, pq.ParquetWriter(temporary, _SCHEMA, compression="none") as writer:
        for rows in _batches(images):
            content = [{"bytes": file.read_bytes(), "path": str(file.relative_to(folder))} for file, _ in rows]
            columns = [pa.array(content, _SCHEMA.field("image").type), pa.array([label for _, label in rows])]
            writer.write_batch(pa.record_batch(columns, _SCHEMA))


def _batches(images: Labelled) -> Iterator[Labelled]:
    for start in range(0, len(images), _ROWS):
        yield images[start : start + _ROWS]
