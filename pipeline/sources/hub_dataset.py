"""A task's parquet files from the hub: those of the recorded commit, each with the recorded hash."""

import sys
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.utils import disable_progress_bars

from pipeline.errors import UserError
from pipeline.files import gigabytes, require_space
from pipeline.sources.class_names import check_class_names, names_in_card, names_in_parquet
from pipeline.sources.hub import HubFile, Listing, fetch_file, list_dataset
from pipeline.sources.record import FileRecord, Record
from pipeline.tasks import TaskDefinition
from pipeline.tasks.registry import HubSource


@dataclass(frozen=True)
class HubDataset:
    """Verified files in the hub's cache, by split and by their paths in the repository, and their record."""

    splits: dict[str, dict[str, Path]]
    record: Record


def fetch_dataset(definition: TaskDefinition, source: HubSource, known: Record | None) -> HubDataset:
    """Fetch what the definition asks for.

    Args:
        definition, source: the task and its source.
        known: the record of an earlier download. Its commit and hashes are taken as long as the definition asks for the
            same repository and revision.

    Raises:
        UserError: the hub cannot be reached or refuses, or has something else than what was recorded, or other
            classes than the definition; or the disk is too small.
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
            raise UserError(f"{where} at {listing.commit[:12]}: no file is called {pattern}; correct splits.{split}")
    _announce(source, listing, [path for paths in splits.values() for path in paths], where)
    local: dict[str, Path] = {}
    files: dict[str, FileRecord] = {}
    for path in dict.fromkeys(path for paths in splits.values() for path in paths):
        local[path], files[path] = _fetch(source.repository, path, listing, where)
    record = Record(
        origin=source.repository,
        revision=source.revision,
        commit=listing.commit,
        selected=source.splits.named(),
        class_names=_compare_class_names(definition, source, listing, local, where),
        files=files,
    )
    return HubDataset({split: {path: local[path] for path in paths} for split, paths in splits.items()}, record)


def _listing(source: HubSource, known: Record | None) -> Listing:
    """The files at the commit that was recorded, or at the one that the revision stands for now."""
    if known is None or known.commit is None:
        return list_dataset(source.repository, source.revision)
    recorded = {path: HubFile(file.bytes, file.sha256) for path, file in known.files.items()}
    if known.selected == source.splits.named():
        return Listing(known.commit, recorded)
    return Listing(known.commit, {**list_dataset(source.repository, known.commit).files, **recorded})


def _announce(source: HubSource, listing: Listing, paths: list[str], where: str) -> None:
    """Say what will be downloaded, and refuse what does not fit."""
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


def _fetch(repository: str, path: str, listing: Listing, where: str) -> tuple[Path, FileRecord]:
    """A file whose content is what it should be; another content is deleted, so that it is fetched again."""
    file = fetch_file(repository, path, listing.commit, "dataset")
    actual, expected = FileRecord.of(file), listing.files[path].sha256
    if expected is not None and actual.sha256 != expected:
        file.resolve().unlink()
        file.unlink(missing_ok=True)
        raise UserError(
            f"{where}/{path} at {listing.commit[:12]}: has SHA-256 {actual.sha256} but should have {expected}; it was "
            "deleted, run again to fetch it once more"
        )
    return file, actual


def _compare_class_names(
    definition: TaskDefinition, source: HubSource, listing: Listing, files: dict[str, Path], where: str
) -> str:
    """Compare with the names in every file or, where files carry none, in the dataset's card."""
    ours = source.class_names or definition.classes
    found = ""
    for path, file in files.items():
        names = names_in_parquet(file, source.label)
        if names is None and "README.md" in listing.files:
            card = fetch_file(source.repository, "README.md", listing.commit, "dataset")
            names = names_in_card(card, source.label, configuration=path.split("/")[0])
        found = check_class_names(ours, names, f"{where}/{path}")
    if not found.startswith("all "):
        print(f"warning: {where}: class names: {found}")
    return found
