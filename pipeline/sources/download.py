"""Download a task's original images from its source and record them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError
from pipeline.images import write_split
from pipeline.io.files import require_space
from pipeline.sources.file_record import FileRecord
from pipeline.sources.folder import pack_folder
from pipeline.sources.hub_dataset import HubDataset, fetch_dataset
from pipeline.sources.mini import materialise
from pipeline.sources.record import DownloadRecord
from pipeline.tasks import TaskDefinition
from pipeline.tasks.registry import FolderSource, HubSource


@dataclass(frozen=True)
class Roots:
    """Directories on this machine.

    repository: the directory to which paths of folders are relative.
    mini: the mini suite's committed sources.
    """

    repository: Path
    mini: Path


def download(
    definition: TaskDefinition, roots: Roots, destination: Path, known: DownloadRecord | None
) -> DownloadRecord:
    """Fill ``destination`` with the original splits of a task, completely or not at all; return their record.

    A mini task gets ``<split>.safetensors``, any other ``<split>/*.parquet``.

    Args:
        definition: the task.
        roots: directories of local sources.
        destination: the directory to replace.
        known: the record of an earlier download.

    Raises:
        UserError: the source is missing, damaged, differs from its record, or does not fit the definition.
    """
    source = definition.source
    if isinstance(source, HubSource):
        dataset = fetch_dataset(definition, source, known)
        with _replacing(destination) as directory:
            _place(dataset, directory)
        return dataset.record
    with _replacing(destination) as directory:
        counts = None
        if isinstance(source, FolderSource):
            counts = pack_folder(definition, source, roots.repository, directory)
        else:
            _materialise(definition, roots.mini, directory)
        files = sorted(path for path in directory.rglob("*") if path.is_file())
        record = DownloadRecord(
            origin=source.kind,
            files={str(path.relative_to(directory)): FileRecord.of(path) for path in files},
            counts=counts,
        )
    if known is not None and known.origin == record.origin and known.files != record.files:
        print(f"warning: task {definition.name}: its images differ from those recorded before; the record is updated")
    return record


@contextmanager
def _replacing(destination: Path) -> Iterator[Path]:
    """Yield a temporary directory that takes the place of ``destination`` if the block succeeds."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=destination.parent, prefix=f".{destination.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        shutil.rmtree(destination, ignore_errors=True)
        temporary.replace(destination)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _place(dataset: HubDataset, directory: Path) -> None:
    """Link files out of the hub's cache or, from another disk, copy them."""
    files = [
        (file.resolve(), directory / split / path.replace("/", "-"))
        for split, paths in dataset.splits.items()
        for path, file in paths.items()
    ]
    disk = directory.stat().st_dev
    copied = sum(file.stat().st_size for file, _ in files if file.stat().st_dev != disk)
    require_space(directory, copied, f"{dataset.record.origin}: its files")
    for file, path in files:
        path.parent.mkdir(exist_ok=True)
        try:
            os.link(file, path)
        except OSError:  # another disk, or one that has no links
            shutil.copyfile(file, path)


def _materialise(definition: TaskDefinition, sources: Path, directory: Path) -> None:
    try:
        splits = materialise(definition.name, sources)
    except ValueError as error:
        raise UserError(f"task {definition.name}: {error}") from error
    for name, images in splits.items():
        metadata = {"task": definition.name, "version": definition.version, "split": name}
        write_split(directory / f"{name}.safetensors", images, metadata)
