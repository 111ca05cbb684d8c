"""Checkpoints and task vectors as safetensors files: tensors by parameter name, and their provenance."""

import sys
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from pipeline.errors import UserError
from pipeline.io.arrays import fingerprint, read_arrays, write_arrays

# Version 1 called the recipe "paradigm"; it is still read.
FORMAT_VERSION = 2
_READABLE = (1, 2)

# Modules that no stage depends on: they cannot change a number, since the schema has no defaults.
_FREE = ("pipeline.config", "pipeline.errors")

Space = Literal["weight", "tangent"]


@dataclass(frozen=True)
class Provenance:
    """The origin of a checkpoint or task vector.

    model: the pre-trained model.
    tasks: every task whose vector is included.
    recipe: the recipe that trained it; several joined with ``+`` for a sum over recipes.
    space: the space it was trained in.
    base_sha256: fingerprint of θ₀; only vectors that share it can be combined.
    seed: seed of the training; 0 if imported, as its seed is unknown.
    code: fingerprint of the modules that made it; changes with them and not with every commit.
    imported_from: the foreign file that it was imported from.
    """

    model: str
    tasks: tuple[str, ...]
    recipe: str
    space: Space
    base_sha256: str
    seed: int
    code: str
    imported_from: str | None = None

    def __str__(self) -> str:
        return f"task vector {self.model}/{self.recipe}/{'+'.join(self.tasks)}"


def code_fingerprint() -> str:
    """Return a SHA-256 over the source of all loaded modules of this library that a stage can depend on.

    ``pipeline.config``, ``pipeline.errors`` and ``pipeline/__init__.py`` are left out: DVC re-runs nothing for them, so
    they must not change an artifact's bytes either.
    """
    files = {name: module.__file__ for name, module in sys.modules.items() if name.startswith("pipeline.")}
    sources = {
        name: np.frombuffer(Path(file).read_bytes(), np.uint8)
        for name, file in files.items()
        if file and not any(name == free or name.startswith(f"{free}.") for free in _FREE)
    }
    return fingerprint(sources)


def check_finite(tensors: Mapping[str, Tensor], where: str, advice: str) -> None:
    """Check that every weight is a finite number.

    Raises:
        UserError: naming the first tensor that holds NaN or infinity, preceded by ``where``, followed by ``advice``.
    """
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise UserError(f"{where}: tensor {name!r} holds NaN or infinity; {advice}")


def read_base(path: Path) -> tuple[dict[str, Tensor], str]:
    """Read the pre-trained encoder θ₀; return its tensors and their fingerprint."""
    arrays, _ = read_arrays(path)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}, fingerprint(arrays)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], provenance: Provenance) -> None:
    """Write a checkpoint θ or a task vector τ with its provenance.

    Raises:
        UserError: a weight is NaN or infinite.
    """
    check_finite(tensors, f"{path}: {provenance}", "it is not written")
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    write_arrays(path, arrays, to_metadata(provenance))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Provenance]:
    """Read a file of :func:`write_tensors`.

    Raises:
        UserError: the file is missing, damaged, of another format, or holds a weight that is NaN or infinite.
    """
    arrays, metadata = read_arrays(path)
    provenance = provenance_of(path, metadata)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    check_finite(tensors, str(path), "make it again with `dvc repro`")
    return tensors, provenance


def provenance_of(path: Path, metadata: Mapping[str, Any]) -> Provenance:
    """Return the provenance in a file's metadata.

    Raises:
        UserError: the file is not a checkpoint or task vector, or its format is of another version.
    """
    try:
        return from_metadata(metadata)
    except ValueError as error:
        raise UserError(f"{path}: not a checkpoint or task vector: {error}; make it again with `dvc repro`") from None


def to_metadata(provenance: Provenance) -> dict[str, Any]:
    """Return the metadata of a file of this provenance."""
    entries = {name: value for name, value in asdict(provenance).items() if value is not None}
    return {"format_version": FORMAT_VERSION, **entries}


def from_metadata(metadata: Mapping[str, Any]) -> Provenance:
    """Return the provenance in a file's metadata.

    Raises:
        ValueError: it is of another format.
    """
    entries = dict(metadata)
    version = entries.pop("format_version", None)
    if version not in _READABLE:
        readable = " and ".join(map(str, _READABLE))
        raise ValueError(f"its format version is {version}, this Tauflow reads {readable}")
    if version == 1 and "paradigm" in entries:
        entries["recipe"] = entries.pop("paradigm")
    required = {field.name: field.default is MISSING for field in fields(Provenance)}
    wrong = entries.keys() - required.keys() | {name for name, needed in required.items() if needed} - entries.keys()
    if wrong:
        raise ValueError(f"metadata entries are missing or unknown: {', '.join(sorted(wrong))}")
    try:
        return TypeAdapter(Provenance).validate_python(entries)
    except ValidationError as error:
        raise ValueError(f"metadata entry {error.errors()[0]['loc'][0]!r} has the wrong type") from None
