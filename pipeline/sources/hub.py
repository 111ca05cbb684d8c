"""Files of the Hugging Face hub through huggingface_hub: resumable, in its own cache, from ``HF_ENDPOINT`` if set.

A hub that is slow, busy or breaks off is asked again, with growing pauses; then one line says why not.
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

from pipeline.errors import UserError

Result = TypeVar("Result")
RepositoryType = Literal["model", "dataset"]

# Seconds before each further attempt, and seconds that a listing of many files may take.
_PAUSES = (1, 4, 16)
_LISTING = 60
_FINAL = (RepositoryNotFoundError, RevisionNotFoundError, RemoteEntryNotFoundError, OfflineModeIsEnabled)
_BUSY = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class HubFile:
    """A file of a repository: its size in bytes and its SHA-256, which the hub knows of large files only."""

    bytes: int
    sha256: str | None


@dataclass(frozen=True)
class Listing:
    """A dataset repository at a commit: its files by path."""

    commit: str
    files: dict[str, HubFile]


def list_dataset(repository: str, revision: str) -> Listing:
    """What a dataset repository holds, and the commit that a branch, a tag or a commit stands for.

    Raises:
        UserError: the hub cannot be reached or refuses.
    """
    what = f"{repository} at {revision[:12]}"
    found = _patiently(
        lambda: HfApi().dataset_info(repository, revision=revision, files_metadata=True, timeout=_LISTING), what
    )
    if found.sha is None:
        raise UserError(f"{what}: the hub names no commit; check HF_ENDPOINT")
    return Listing(
        found.sha,
        {
            file.rfilename: HubFile(file.size or 0, file.lfs.sha256 if file.lfs else None)
            for file in found.siblings or []
        },
    )


def fetch_file(repository: str, filename: str, commit: str, kind: RepositoryType) -> Path:
    """A file of a repository at a commit, in the hub's cache; no network if it is there.

    Raises:
        UserError: the hub cannot be reached or refuses.
    """
    what = f"{repository}/{filename} at {commit[:12]}"
    return Path(_patiently(lambda: hf_hub_download(repository, filename, revision=commit, repo_type=kind), what))


def _patiently(call: Callable[[], Result], what: str) -> Result:
    for pause in (*_PAUSES, None):
        try:
            return call()
        except Exception as error:  # the hub's, or whatever the HTTP library below it raises
            if pause is None or not _may_pass(error):
                raise UserError(f"{what}: {_explain(error)}") from None
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _may_pass(error: BaseException) -> bool:
    """Whether another attempt may succeed."""
    if isinstance(error, LocalEntryNotFoundError):  # the library's summary of what went wrong
        return error.__cause__ is None or _may_pass(error.__cause__)
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
    return " ".join(str(error).split()) or type(error).__name__
