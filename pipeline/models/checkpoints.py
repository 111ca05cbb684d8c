"""Checkpoints and task vectors as safetensors files: tensors by parameter name, and where they come from."""

import sys
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.files import fingerprint, read_arrays, write_arrays

FORMAT_VERSION = 1

Space = Literal["weight", "tangent"]


@dataclass(frozen=True)
class Provenance:
    """Where a task vector comes from.

    ``base_sha256`` is the fingerprint of θ₀: only vectors that share it live in the same space and can be combined.
    ``tasks`` names every task whose vector went in; ``space`` is where it was trained; ``code`` fingerprints the
    modules that made it, so that it changes with them and not with every commit. ``imported_from`` names the foreign
    file that an imported one was read from, whose seed is unknown and given as 0.
    """

    model: str
    tasks: tuple[str, ...]
    paradigm: str
    space: Space
    base_sha256: str
    seed: int
    code: str
    imported_from: str | None = None

    def __str__(self) -> str:
        return f"task vector {self.model}/{self.paradigm}/{'+'.join(self.tasks)}"


def code_fingerprint() -> str:
    """SHA-256 over the source of all modules of this library that are loaded now, but for ``pipeline.config``.

    That has no defaults, so it can change no number; DVC runs nothing again for it either.
    """
    files = {
        name: module.__file__
        for name, module in sys.modules.items()
        if name.split(".")[0] == "pipeline" and name.split(".")[1:2] != ["config"]
    }
    sources = {name: np.frombuffer(Path(file).read_bytes(), np.uint8) for name, file in files.items() if file}
    return fingerprint(sources)


def read_base(path: Path) -> tuple[dict[str, Tensor], str]:
    """The pre-trained encoder θ₀ and its fingerprint.

    Raises:
        UserError: the file is missing or damaged.
    """
    arrays, _ = read_arrays(path)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}, fingerprint(arrays)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], provenance: Provenance) -> None:
    """Write trained tensors, be they a checkpoint θ or a task vector τ, with their origin."""
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    write_arrays(path, arrays, _to_json(provenance))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Provenance]:
    """Read what :func:`write_tensors` wrote.

    Raises:
        UserError: the file is missing, damaged, or of another format.
    """
    arrays, metadata = read_arrays(path)
    try:
        provenance = _from_json(metadata)
    except ValueError as error:
        raise UserError(f"{path}: no checkpoint or task vector: {error}; make it again with `dvc repro`") from None
    return {name: torch.from_numpy(array) for name, array in arrays.items()}, provenance


def _to_json(provenance: Provenance) -> dict[str, Any]:
    """What a task vector's file says of its origin."""
    entries = {name: value for name, value in asdict(provenance).items() if value is not None}
    return {"format_version": FORMAT_VERSION, **entries}


def _from_json(content: dict[str, Any]) -> Provenance:
    """The inverse of :func:`_to_json`.

    Raises:
        ValueError: an entry is missing or unknown, or the format is of another version.
    """
    content = dict(content)
    version = content.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise ValueError(f"format version is {version}, this Tauflow reads {FORMAT_VERSION}")
    known = {field.name: field.default is MISSING for field in fields(Provenance)}
    wrong = content.keys() - known.keys() | {name for name, needed in known.items() if needed} - content.keys()
    if wrong:
        raise ValueError(f"metadata entries are missing or unknown: {', '.join(sorted(wrong))}")
    return Provenance(**{**content, "tasks": tuple(content["tasks"])})
