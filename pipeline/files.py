"""Reading and writing files so that a broken one is never written, and never read unnoticed."""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pipeline.errors import UserError

# All metadata is one JSON text under one key: safetensors does not fix the order of several.
_METADATA_KEY = "tauflow"
_BYTE = np.dtype(np.uint8)
# NumPy's names of the types that are streamed and mapped, and safetensors'.
_SAFETENSORS = {"|u1": "U8", "<i8": "I64", "<f4": "F32"}


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


def write_streamed(
    path: Path,
    name: str,
    shape: tuple[int, ...],
    blocks: Iterable[np.ndarray],
    others: Mapping[str, np.ndarray],
    metadata: Mapping[str, Any],
) -> None:
    """What :func:`write_arrays` writes, byte for byte, of a uint8 array that need not fit into memory.

    Args:
        path: the file.
        name, shape: the array's.
        blocks: its rows, in order.
        others: small arrays, whose names come after ``name`` in the alphabet.
        metadata: as there.
    """
    # Safetensors puts wide types first.
    ordered = dict(sorted(others.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))
    layout = {**{other: (array.dtype, array.shape) for other, array in ordered.items()}, name: (_BYTE, shape)}
    digest, missing = hashlib.sha256(_title(name, _BYTE, shape)), math.prod(shape)
    with atomic_write(path) as temporary, temporary.open("r+b") as file:
        file.write(_header(layout, metadata, "0" * 64))  # as long as the hash that is known at the end
        for array in ordered.values():
            file.write(np.asarray(array, order="C").tobytes())
        for block in blocks:
            content = np.asarray(block, _BYTE, order="C").reshape(-1).data
            missing -= len(content)
            digest.update(content)
            file.write(content)
        if missing:
            raise ValueError(f"{path}: {missing} bytes less than {shape} takes")
        for other in sorted(others):
            _add(digest, other, others[other])
        file.seek(0)
        file.write(_header(layout, metadata, _signed(digest.hexdigest(), metadata)))


def _header(layout: Mapping[str, tuple[np.dtype, tuple[int, ...]]], metadata: Mapping[str, Any], sha256: str) -> bytes:
    """The beginning of a safetensors file that holds arrays of these types and shapes, one after another."""
    text = json.dumps({**metadata, "sha256": sha256}, sort_keys=True)
    header: dict[str, Any] = {"__metadata__": {_METADATA_KEY: text}}
    start = 0
    for name, (dtype, shape) in layout.items():
        end = start + dtype.itemsize * math.prod(shape)
        header[name] = {"dtype": _SAFETENSORS[dtype.str], "shape": list(shape), "data_offsets": [start, end]}
        start = end
    content = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    content += b" " * (-len(content) % 8)
    return len(content).to_bytes(8, "little") + content


def map_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """As :func:`read_arrays`, mapped into memory instead of read; changes to the arrays do not reach the file.

    The file is checked all the same, so every byte of it is looked at once. For arrays of bytes, int64 and float32.

    Raises:
        UserError: as there.
    """
    return _read(path, _mapped)


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what :func:`write_arrays` wrote.

    Raises:
        UserError: the file is missing, truncated, changed, or not written by Tauflow.
    """
    return _read(path, _loaded)


def _loaded(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in names}


def _mapped(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        content = np.memmap(file, _BYTE, "c").view(np.ndarray)[8 + size :]
    types = {kind: np.dtype(name) for name, kind in _SAFETENSORS.items()}
    return {
        name: content[slice(*header[name]["data_offsets"])]
        .view(types[header[name]["dtype"]])
        .reshape(header[name]["shape"])
        for name in names
    }


def _read(
    path: Path, load: Callable[[Path, list[str]], dict[str, np.ndarray]]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {}).get(_METADATA_KEY, "null"))
            names = sorted(file.keys())
        arrays = load(path, names)
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
    return _signed(fingerprint(arrays), metadata)


def _signed(content: str, metadata: Mapping[str, Any]) -> str:
    text = json.dumps(metadata, sort_keys=True)
    return hashlib.sha256(f"{content}\n{text}".encode()).hexdigest()


def fingerprint(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and bytes, independent of the order of the entries."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        _add(digest, name, arrays[name])
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", name: str, array: np.ndarray) -> None:
    array = np.asarray(array, order="C")
    digest.update(_title(name, array.dtype, array.shape))
    digest.update(array.reshape(-1).view(_BYTE).data)


def _title(name: str, dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    return f"{name} {dtype.str} {shape}\n".encode()


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


def require_space(directory: Path, needed: int, what: str) -> None:
    """Check that the disk of a directory, which need not be there yet, has room for so many bytes.

    Raises:
        UserError: it has not.
    """
    while not directory.exists():
        directory = directory.parent
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise UserError(f"{what}: {gigabytes(needed)} are needed at {directory.resolve()}, {gigabytes(free)} are free")


def gigabytes(size: int) -> str:
    """A number of bytes, for people."""
    return f"{size / 1e9:.2f} GB"


def missing(path: Path) -> UserError:
    """The error for a file that is not there."""
    return UserError(f"{path}: no such file; {_restore(path)}")


def _restore(path: Path) -> str:
    return f"restore it with `dvc checkout {path}` or make it again with `dvc repro`"


def _flat(error: Exception) -> str:
    return " ".join(str(error).split())
