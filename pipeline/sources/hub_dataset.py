"""Fetch a task's parquet files from the hub: those of the recorded commit, each with the recorded hash."""

import sys
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.utils import disable_progress_bars

from pipeline.errors import UserError, gigabytes
from pipeline.io.files import require_space
from pipeline.sources.class_names import check_class_names, names_in_card, names_in_parquet
from pipeline.sources.file_record import FileRecord
from pipeline.sources.hub import HubFile, Listing, fetch_file, fetch_verified, list_repository
from pipeline.sources.record import DownloadRecord
from pipeline.tasks import TaskDefinition
from pipeline.tasks.registry import HubSource


@dataclass(frozen=True)
class HubDataset:
    """Verified files in the hub's cache, by split and by path in the repository, and their record."""

    splits: dict[str, dict[str, Path]]
    record: DownloadRecord


def fetch_dataset(definition: TaskDefinition, source: HubSource, known: DownloadRecord | None) -> HubDataset:
    """Fetch the files that a definition asks for.

    Args:
        definition: the task.
        source: its source.
        known: the record of an earlier download. Its commit and hashes apply as long as the definition names the
            same repository and revision.

    Raises:
        UserError: the hub cannot be reached or refuses, a file is not parquet or differs from its record, the classes
            are not the definition's, or the disk is too small.
    """
    if not sys.stderr.isatty():
        disable_progress_bars()
    where = f"task {definition.name}: {source.repository}"
    if known is not None and (known.origin, known.revision) != (source.repository, source.revision):
        known = None
    listing = _listing(source, known)
    splits = {split: files.of(listing.files) for split, files in source.splits.named().items()}
    for split, paths in splits.items():
        if not paths:
            pattern = source.splits.named()[split].files
            raise UserError(f"{where} at {listing.commit[:12]}: no file matches {pattern}; correct splits.{split}")
    _announce(source, listing, [path for paths in splits.values() for path in paths], where)
    local: dict[str, Path] = {}
    files: dict[str, FileRecord] = {}
    for path in dict.fromkeys(path for paths in splits.values() for path in paths):
        local[path], files[path] = fetch_verified(source.repository, path, listing, "dataset")
    record = DownloadRecord(
        origin=source.repository,
        revision=source.revision,
        commit=listing.commit,
        selected=source.splits.named(),
        class_names=_compare_class_names(definition, source, listing, local, where),
        files=files,
    )
    return HubDataset({split: {path: local[path] for path in paths} for split, paths in splits.items()}, record)


def _listing(source: HubSource, known: DownloadRecord | None) -> Listing:
    """Return the files at the recorded commit, or at the one that the revision stands for now."""
    if known is None or known.commit is None:
        return list_repository(source.repository, source.revision, "dataset")
    recorded = {path: HubFile(file.bytes, file.sha256) for path, file in known.files.items()}
    if known.selected == source.splits.named():
        return Listing(known.commit, recorded)
    return Listing(known.commit, {**list_repository(source.repository, known.commit, "dataset").files, **recorded})


def _announce(source: HubSource, listing: Listing, paths: list[str], where: str) -> None:
    """Print the size of the download, and check that it fits on the disk."""
    absent = [
        path
        for path in paths
        if not isinstance(
            try_to_load_from_cache(source.repository, path, revision=listing.commit, repo_type="dataset"), str
        )
    ]
    needed = sum(listing.files[path].bytes for path in absent)
    total = sum(listing.files[path].bytes for path in paths)
    print(
        f"{where} at {listing.commit[:12]}: {len(paths)} files, {gigabytes(total)}; {gigabytes(needed)} to download",
        flush=True,
    )
    require_space(Path(constants.HF_HUB_CACHE), needed, f"{where}: its files")


def _compare_class_names(
    definition: TaskDefinition, source: HubSource, listing: Listing, files: dict[str, Path], where: str
) -> str:
    """Compare with the names in every file or, if a file has none, in the dataset's card."""
    ours = source.class_names or definition.classes
    result = ""
    for path, file in files.items():
        names = names_in_parquet(file, source.label, f"{where}/{path} at {listing.commit[:12]}")
        if names is None and "README.md" in listing.files:
            card = fetch_file(source.repository, "README.md", listing.commit, "dataset")
            names = names_in_card(card, source.label, configuration=path.split("/")[0])
        result = check_class_names(ours, names, f"{where}/{path}")
    if not result.startswith("all "):
        print(f"warning: {where}: class names: {result}")
    return result
