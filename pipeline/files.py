"""Reading and writing files so that a broken one is never written, and never read unnoticed."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pipeline.errors import UserError

# All metadata is one JSON text under one key: safetensors does not fix the order of several.
_METADATA_KEY = "tauflow"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place if the block succeeds, and is deleted if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, with sorted keys."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        UserError: the file is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing(path) from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not valid JSON ({error}); {_restore(path)}") from None


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Write arrays and JSON metadata as one safetensors file, atomically; the same content gives the same bytes.

    A SHA-256 of arrays and metadata is added to the metadata, and checked by :func:`read_arrays`.
    """
    # Not ascontiguousarray, which makes one-dimensional arrays of scalars.
    content = {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}
    signed = {**metadata, "sha256": _signature(content, metadata)}
    with atomic_write(path) as temporary:
        save_file(content, temporary, {_METADATA_KEY: json.dumps(signed, sort_keys=True)})


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what :func:`write_arrays` wrote.

    Raises:
        UserError: the file is missing, truncated, changed, or not written by Tauflow.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {}).get(_METADATA_KEY, "null"))
            arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except FileNotFoundError:
        raise missing(path) from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: damaged or no safetensors file ({_flat(error)}); {_restore(path)}") from None
    if not isinstance(metadata, dict):
        raise UserError(f"{path}: has no Tauflow metadata, so its origin is unknown; {_restore(path)}")
    if metadata.pop("sha256", None) != _signature(arrays, metadata):
        raise UserError(f"{path}: damaged, its content does not fit its SHA-256; {_restore(path)}")
    return arrays, metadata


def _signature(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> str:
    """SHA-256 over a file's arrays and its metadata."""
    text = json.dumps(metadata, sort_keys=True)
    return hashlib.sha256(f"{fingerprint(arrays)}\n{text}".encode()).hexdigest()


def fingerprint(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and bytes, independent of the order of the entries."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        UserError: the file is missing.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise missing(path) from None


def missing(path: Path) -> UserError:
    """The error for a file that is not there."""
    return UserError(f"{path}: no such file; {_restore(path)}")


def _restore(path: Path) -> str:
    return f"restore it with `dvc checkout {path}` or make it again with `dvc repro`"


def _flat(error: Exception) -> str:
    return " ".join(str(error).split())
