"""Fetch files from the Hugging Face hub, or ``HF_ENDPOINT``, through huggingface_hub: resumable and cached.

Requests that time out, are rate-limited, or break off are repeated with growing pauses before they fail.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from pipeline.errors import UserError, one_line
from pipeline.sources.file_record import FileRecord

Result = TypeVar("Result")
RepositoryType = Literal["model", "dataset"]

# Pauses before further attempts, and time limit for a listing of many files, in seconds.
_PAUSES = (1, 4, 16)
_LISTING = 60
_FINAL = (RepositoryNotFoundError, RevisionNotFoundError, RemoteEntryNotFoundError, OfflineModeIsEnabled)
_BUSY = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class HubFile:
    """A file of a repository: its size in bytes and its SHA-256, which the hub has only for large files."""

    bytes: int
    sha256: str | None


@dataclass(frozen=True)
class Listing:
    """A repository at a commit: its files by path."""

    commit: str
    files: dict[str, HubFile]


def list_repository(repository: str, revision: str, kind: RepositoryType) -> Listing:
    """Return the files of a repository and the commit that ``revision`` (a branch, tag or commit) stands for.

    Raises:
        UserError: the hub cannot be reached or refuses.
    """
    name = f"{repository} at {revision[:12]}"
    ask = HfApi().dataset_info if kind == "dataset" else HfApi().model_info
    information = _with_retries(lambda: ask(repository, revision=revision, files_metadata=True, timeout=_LISTING), name)
    if information.sha is None:
        raise UserError(f"{name}: the hub names no commit; check HF_ENDPOINT")
    return Listing(
        information.sha,
        {
            file.rfilename: HubFile(file.size or 0, file.lfs.sha256 if file.lfs else None)
            for file in information.siblings or []
        },
    )


def fetch_file(repository: str, filename: str, commit: str, kind: RepositoryType) -> Path:
    """Return a file of a repository at a commit from the hub's cache, fetching it if it is not there.

    Raises:
        UserError: the hub cannot be reached or refuses.
    """
    name = f"{repository}/{filename} at {commit[:12]}"
    return Path(_with_retries(lambda: hf_hub_download(repository, filename, revision=commit, repo_type=kind), name))


def fetch_verified(repository: str, path: str, listing: Listing, kind: RepositoryType) -> tuple[Path, FileRecord]:
    """Return a file of a listing and its record; one with another hash is deleted, so that it is fetched again.

    Raises:
        UserError: the hub cannot be reached or refuses, or the file has another hash than it should have.
    """
    file = fetch_file(repository, path, listing.commit, kind)
    actual, expected = FileRecord.of(file), listing.files[path].sha256
    if expected is not None and actual.sha256 != expected:
        file.resolve().unlink()
        file.unlink(missing_ok=True)
        raise UserError(
            f"{repository}/{path} at {listing.commit[:12]}: has SHA-256 {actual.sha256} but should have {expected}; it "
            "was deleted, run again to fetch it once more"
        )
    return file, actual


def _with_retries(call: Callable[[], Result], name: str) -> Result:
    for pause in (*_PAUSES, None):
        try:
            return call()
        except Exception as error:  # the hub's errors, and those of the HTTP library below it
            if pause is None or not _is_transient(error):
                raise UserError(f"{name}: {_explain(error)}") from None
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _is_transient(error: BaseException) -> bool:
    """Return whether another attempt may succeed."""
    if isinstance(error, LocalEntryNotFoundError):  # the library's summary of the error
        return error.__cause__ is None or _is_transient(error.__cause__)
    if isinstance(error, _FINAL):
        return False
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _BUSY
    return not (isinstance(error, OSError) and error.errno)  # a full disk


def _explain(error: Exception) -> str:
    if isinstance(error, GatedRepoError):
        return "access is gated; accept its terms on the hub and set HF_TOKEN"
    if isinstance(error, LocalEntryNotFoundError):
        why = _flat(error.__cause__ or error)
        return f"the hub cannot be reached ({why}); check the network, HF_ENDPOINT, HF_HUB_OFFLINE"
    return f"cannot be fetched: {_flat(error)}"


def _flat(error: BaseException) -> str:
    return one_line(error) or type(error).__name__
