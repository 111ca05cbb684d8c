"""Sharded checkpoints as Hugging Face writes them: several files, and an index of the tensors in each."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from pipeline.errors import UserError
from pipeline.io.files import file_sha256

# Hugging Face puts the variant of a model into the name: ``model.safetensors.index.fp16.json``.
_INDEX = r"\.index(\.\w+)?\.json$"
# Names of shards whose total is in the name, and of others.
_SHARD_OF = re.compile(r"(\d+)[-_ .]?of[-_ .]?(\d+)(?!\d)", re.IGNORECASE)
_SHARD = re.compile(
    r"consolidated\.\d+|mp_rank_\d+|(?<![a-z])part[-_ ]?\d+|(?<=\.safetensors\.)\d+$|(?<=\.bin\.)\d+$", re.IGNORECASE
)


class _IndexFile(BaseModel):
    weight_map: Annotated[dict[str, str], Field(min_length=1)]


@dataclass(frozen=True)
class ShardIndex:
    """The shards of a checkpoint, sorted by name, and the names of the tensors in each."""

    shards: dict[Path, frozenset[str]]

    @classmethod
    def read(cls, path: Path) -> "ShardIndex":
        """Read an index.

        Raises:
            UserError: it is not an index, or names a file in another folder.
        """
        try:
            weight_map = _IndexFile.model_validate_json(path.read_bytes()).weight_map
        except (ValidationError, RecursionError):
            raise UserError(f"{path}: not an index of shards (weight_map: tensor → file); download it again") from None
        for name in weight_map.values():
            if PurePath(name).name != name or name == "..":
                raise UserError(f"{path}: names the shard {name[:80]!r}; shards must be beside their index")
        files = sorted(set(weight_map.values()))
        return cls({path.parent / f: frozenset(n for n, file in weight_map.items() if file == f) for f in files})

    def sha256(self) -> str:
        """Return a SHA-256 over the shards' names and contents."""
        hashes = {shard.name: file_sha256(shard) for shard in self.shards}
        return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def is_index(file: Path) -> bool:
    """Return whether a file is named like an index."""
    return re.search(_INDEX, file.name, re.IGNORECASE) is not None


def find_index(folder: Path) -> Path | None:
    """Return the index in a folder, preferring one of safetensors files.

    Raises:
        UserError: there are several of a kind.
    """
    for kind in ("safetensors", "bin"):
        indices = [p for p in sorted(folder.iterdir()) if re.search(rf"\.{kind}{_INDEX}", p.name, re.IGNORECASE)]
        if len(indices) > 1:
            names = ", ".join(path.name for path in indices)
            raise UserError(f"{folder}: has several indices of shards; name one of {names}")
        if indices:
            return indices[0]
    return None


def shard_by_name(file: Path) -> str | None:
    """Return which one of several shards a file's name says it is: ``1 of 2``, ``consolidated.00``."""
    for match in _SHARD_OF.finditer(file.name):
        if int(match[2]) > 1:
            return f"{int(match[1])} of {int(match[2])}"
    match = _SHARD.search(file.name)
    return match[0] if match else None
