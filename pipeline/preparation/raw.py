"""Read the original splits of a task as ``download`` wrote them: packed arrays, or image files in parquet."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from pipeline.errors import UserError, missing, one_line
from pipeline.images.images import Images, LabelledImages
from pipeline.images.splits import read_split
from pipeline.preparation.decoding import Pixels, decode
from pipeline.tasks.registry import HubSource, TaskDefinition
from pipeline.tasks.text import printable

Indices = Int64[np.ndarray, " n"]

# Number of rows in memory at once, with their decoded images.
_ROWS = 64


@runtime_checkable
class RawSplit(Protocol):
    """A split that a source ships."""

    @property
    def labels(self) -> Indices:
        """Return the labels of all images."""
        ...

    @property
    def native(self) -> int | None:
        """Return the height and width of all images, or ``None`` if they differ."""
        ...

    @property
    def shuffled(self) -> bool:
        """Return whether the images are in random order, so that the first ones are a fair sample."""
        ...

    def images(self, indices: Indices, size: int, executor: Executor) -> Iterator[Images]:
        """Yield the images at ascending indices, in blocks of ``[_, 3, size, size]``."""
        ...


@dataclass(frozen=True)
class PackedSplit:
    """A split of a mini task: drawn or chosen at random, packed when it was downloaded."""

    content: LabelledImages
    shuffled: bool = True

    @property
    def labels(self) -> Indices:
        return self.content.labels

    @property
    def native(self) -> int:
        return self.content.images.shape[-1]

    def images(self, indices: Indices, size: int, executor: Executor) -> Iterator[Images]:
        if size != self.native:
            raise ValueError(f"packed images are {self.native} pixels wide and cannot become {size}")
        for start in range(0, len(indices), _ROWS):
            yield self.content.images[indices[start : start + _ROWS]]


@dataclass(frozen=True)
class ParquetSplit:
    """A split in parquet files whose rows hold an image file and its label; often sorted by class."""

    files: list[Path]
    labels: Indices
    image: str
    native: int | None
    where: str
    shuffled: bool = False

    def images(self, indices: Indices, size: int, executor: Executor) -> Iterator[Images]:
        """Yield the images, decoded in parallel.

        Raises:
            UserError: a file or an image is broken; it is named with its index.
        """
        wanted = np.zeros(len(self.labels), bool)
        wanted[indices] = True
        first = 0
        for path in self.files:
            for column in _batches(path, self.image):
                chosen = np.flatnonzero(wanted[first : first + len(column)])
                rows = column.take(pa.array(chosen)).to_pylist()
                decoded = executor.map(self._decoder(path, size), (first + chosen).tolist(), rows)
                if rows:
                    yield np.stack(list(decoded))
                first += len(column)

    def _decoder(self, path: Path, size: int) -> Callable[[int, dict[str, bytes | str | None] | None], Pixels]:
        def run(index: int, row: dict[str, bytes | str | None] | None) -> Pixels:
            content, name = (row or {}).get("bytes"), (row or {}).get("path")
            called = (
                f"{self.where}: image {index}" + (f" ({printable(str(name))})" if name else "") + f" of {path.name}"
            )
            if not isinstance(content, bytes):
                raise UserError(f"{called}: has no content")
            try:
                return decode(content, size, self.native)
            except ValueError as error:
                raise UserError(f"{called}: {error}") from None

        return run


def read_raw(definition: TaskDefinition, directory: Path) -> dict[str, RawSplit]:
    """Return the splits that a task's source ships, by name.

    Raises:
        UserError: a file is missing or damaged, or lacks images or labels.
    """
    if definition.source.kind == "mini":
        return {
            path.stem: PackedSplit(read_split(path, len(definition.classes)))
            for path in sorted(directory.glob("*.safetensors"))
        }
    splits = {}
    for split in sorted(path for path in directory.glob("*") if path.is_dir()):
        where = f"task {definition.name}, split {split.name}"
        splits[split.name] = _parquet_split(sorted(split.glob("*.parquet")), definition, where)
    return splits


def _parquet_split(files: list[Path], definition: TaskDefinition, where: str) -> ParquetSplit:
    source = definition.source
    image, label = (source.image, source.label) if isinstance(source, HubSource) else ("image", "label")
    labels = [_labels(path, image, label) for path in files]
    native = None if source.kind == "mini" else source.image_size
    return ParquetSplit(files, np.concatenate([np.empty(0, np.int64), *labels]), image, native, where)


def _labels(path: Path, image: str, label: str) -> Indices:
    """Return the labels of a file.

    Raises:
        UserError: the file is missing or damaged, lacks a column, or its labels are not numbers.
    """
    with _open(path) as file:
        schema = file.schema_arrow
        for column in (image, label):
            if column not in schema.names:
                raise UserError(f"{path}: no column {column!r}; it has {', '.join(schema.names)}")
        if not pa.types.is_integer(schema.field(label).type):
            raise UserError(f"{path}: column {label!r} holds {schema.field(label).type}; labels must be integers")
        _check_images(path, schema.field(image))
        try:
            column = file.read([label]).column(label)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from None
        if column.null_count:
            raise UserError(f"{path}: {column.null_count} images have no label")
        return column.to_numpy().astype(np.int64)


def _check_images(path: Path, field: pa.Field) -> None:
    content = field.type.field("bytes").type if _has_bytes(field.type) else None
    if content is None or not (pa.types.is_binary(content) or pa.types.is_large_binary(content)):
        raise UserError(f"{path}: column {field.name!r} holds {field.type}; images must be structs of bytes and path")


def _has_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0


def _batches(path: Path, image: str) -> Iterator[pa.Array]:
    with _open(path) as file:
        try:
            for batch in file.iter_batches(_ROWS, columns=[image], use_threads=False):
                yield batch.column(0)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from None


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise missing(path) from None
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: damaged or not a parquet file ({one_line(error)}); run `dvc repro` again")
