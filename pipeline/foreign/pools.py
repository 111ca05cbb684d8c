"""Pools of published checkpoints: a YAML file each in ``pipeline/definitions/pools/``, and fetching what they name."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.config import Name, load_yaml
from pipeline.errors import UserError
from pipeline.sources.file_record import FileRecord
from pipeline.sources.hub import HubFile, Listing, fetch_verified, list_repository
from pipeline.sources.record import DownloadRecord
from pipeline.tasks.registry import Text

_DEFINITIONS = Path(__file__).parents[1] / "definitions" / "pools"
# Files of a vision model of Hugging Face's; the first names the activation.
_HUB_FILES = ("config.json", "model.safetensors")
_FOLDER = "folder"


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HubPool(_Frozen):
    """Vision models on the Hugging Face hub, a repository per task.

    revision: a branch or tag. The commit that it stands for at the first import is recorded, and used from then on.
    """

    kind: Literal["hub"]
    revision: Text
    repositories: dict[Name, Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]]


class FolderPool(_Frozen):
    """Checkpoints in a folder on this machine, a file per task, relative to the folder."""

    kind: Literal["folder"]
    files: dict[Name, Text]


class Pool(_Frozen):
    """Checkpoints that somebody published, one per task, fine-tuned from the same model.

    model: the model; ``None`` if the pool has a folder for each.
    notes: by task, how the checkpoint's training differs from this project's definition of the task.
    dtd: whether test images of DTD were among those trained on (``leaky``).
    """

    name: Name
    description: Text
    model: Name | None
    source: Annotated[HubPool | FolderPool, Field(discriminator="kind")]
    notes: dict[Name, Text]
    dtd: Literal["clean", "leaky"]
    licence: Text
    citation: Text

    @property
    def tasks(self) -> list[str]:
        """The tasks that have a checkpoint."""
        return list(self.source.repositories if isinstance(self.source, HubPool) else self.source.files)


def pool_names() -> list[str]:
    """Return the names of all pools, sorted."""
    return sorted(path.stem for path in _DEFINITIONS.glob("*.yaml"))


def load_pool(name: str) -> Pool:
    """Return the definition of a pool.

    Raises:
        UserError: there is no such pool, or its file is wrong.
    """
    path = _DEFINITIONS / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"unknown pool {name!r}; choose from {', '.join(pool_names())}")
    pool = load_yaml(path, Pool)
    if pool.name != name:
        raise UserError(f"{path}: name is {pool.name!r} but must be the file's, {name!r}")
    return pool


def fetch_checkpoint(
    pool: Pool, task: str, folder: Path | None, known: DownloadRecord | None
) -> tuple[Path, DownloadRecord]:
    """Return the weights of a task's checkpoint, and their record.

    Args:
        pool: the pool.
        task: one of its tasks.
        folder: where the files of a pool in a folder are.
        known: the record of an earlier import. Its commit and hashes are used while the pool names the same source.

    Raises:
        UserError: the hub cannot be reached or refuses, a file is missing, or one differs from its record.
    """
    if isinstance(pool.source, HubPool):
        return _fetch_from_hub(pool.source.repositories[task], pool.source.revision, known)
    if folder is None:
        raise UserError(f"pool {pool.name}: its files are in a folder; name it with --folder")
    return _find_in_folder(folder, pool.source.files[task], known)


def _fetch_from_hub(repository: str, revision: str, known: DownloadRecord | None) -> tuple[Path, DownloadRecord]:
    if known is not None and known.commit is not None and (known.origin, known.revision) == (repository, revision):
        files = {path: HubFile(file.bytes, file.sha256) for path, file in known.files.items()}
        listing = Listing(known.commit, files)
    else:
        listing = list_repository(repository, revision, "model")
    for name in _HUB_FILES:
        if name not in listing.files:
            raise UserError(f"{repository} at {listing.commit[:12]}: has no {name}; correct the pool's definition")
    fetched = {name: fetch_verified(repository, name, listing, "model") for name in _HUB_FILES}
    records = {name: record for name, (_, record) in fetched.items()}
    weights, _ = fetched[_HUB_FILES[-1]]
    return weights, DownloadRecord(origin=repository, revision=revision, commit=listing.commit, files=records)


def _find_in_folder(folder: Path, name: str, known: DownloadRecord | None) -> tuple[Path, DownloadRecord]:
    path = folder / name
    if not path.is_file():
        raise UserError(f"{path}: no such file; correct --folder")
    record = DownloadRecord(origin=_FOLDER, files={name: FileRecord.of(path)})
    if known is not None and known.origin == _FOLDER and known.files != record.files:
        raise UserError(
            f"{path}: has SHA-256 {record.files[name].sha256}, not the recorded one; get the published file again, or "
            "delete the record to take this one"
        )
    return path, record
