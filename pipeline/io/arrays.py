"""Arrays with JSON metadata in safetensors files, with a SHA-256 inside: no undetected corruption."""

import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pipeline.errors import damaged, missing
from pipeline.io.files import allocate, atomic_write

# All metadata is one JSON text under one key, because safetensors does not fix the order of keys.
METADATA_KEY = "tauflow"
_BYTE = np.dtype(np.uint8)
# Types of streamed and mapped arrays, by NumPy's and safetensors' names.
_SAFETENSORS = {"|u1": "U8", "<i8": "I64", "<f4": "F32"}


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Write arrays and JSON metadata as one safetensors file, atomically; equal content gives equal bytes.

    A SHA-256 of arrays and metadata is added to the metadata; :func:`read_arrays` checks it.
    """
    # Not ascontiguousarray, which turns scalars into one-dimensional arrays.
    content = {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}
    signed = {**metadata, "sha256": signature(content, metadata)}
    with atomic_write(path) as temporary:
        try:
            save_file(content, temporary, {METADATA_KEY: json.dumps(signed, sort_keys=True)})
        except SafetensorError as error:
            raise os_error(error) from None


def write_streamed(
    path: Path,
    name: str,
    shape: tuple[int, ...],
    blocks: Iterable[np.ndarray],
    others: Mapping[str, np.ndarray],
    metadata: Mapping[str, Any],
    dtype: np.dtype = _BYTE,
) -> None:
    """Write the bytes that :func:`write_arrays` writes, of an array that need not fit into memory.

    The disk's room is taken first, so that a disk that is too full is an error before the blocks are computed.

    Args:
        path: the file.
        name: the array's name.
        shape: its shape.
        blocks: its rows, in order.
        others: small arrays of types as wide or wider, whose names follow ``name`` in the alphabet.
        metadata: JSON metadata.
        dtype: the array's type, uint8 or float32.

    Raises:
        UserError: the file cannot be written.
    """
    # Safetensors puts wide types first.
    ordered = dict(sorted(others.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))
    layout = {**{other: (array.dtype, array.shape) for other, array in ordered.items()}, name: (dtype, shape)}
    digest, missing = hashlib.sha256(title(name, dtype, shape)), dtype.itemsize * math.prod(shape)
    with atomic_write(path) as temporary, temporary.open("r+b") as file:
        start = header(layout, metadata, "0" * 64)  # a placeholder for the hash, which is known at the end
        allocate(file, len(start) + sum(array.nbytes for array in ordered.values()) + missing)
        file.write(start)
        for array in ordered.values():
            file.write(np.asarray(array, order="C").tobytes())
        for block in blocks:
            content = np.asarray(block, dtype, order="C").reshape(-1).view(_BYTE).data
            missing -= len(content)
            digest.update(content)
            file.write(content)
        if missing:
            raise ValueError(f"{path}: the blocks have {missing} bytes less than shape {shape}")
        for other in sorted(others):
            add_to_digest(digest, other, others[other])
        file.seek(0)
        file.write(header(layout, metadata, sign(digest.hexdigest(), metadata)))


def header(layout: Mapping[str, tuple[np.dtype, tuple[int, ...]]], metadata: Mapping[str, Any], sha256: str) -> bytes:
    """Return the header of a safetensors file that holds arrays of these types and shapes in this order."""
    text = json.dumps({**metadata, "sha256": sha256}, sort_keys=True)
    header: dict[str, Any] = {"__metadata__": {METADATA_KEY: text}}
    start = 0
    for name, (dtype, shape) in layout.items():
        end = start + dtype.itemsize * math.prod(shape)
        header[name] = {"dtype": _SAFETENSORS[dtype.str], "shape": list(shape), "data_offsets": [start, end]}
        start = end
    content = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    content += b" " * (-len(content) % 8)
    return len(content).to_bytes(8, "little") + content


def map_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Map a file of :func:`write_arrays` into memory, for uint8, int64 and float32; return arrays and metadata.

    The file is checked as in :func:`read_arrays`, so every byte is read once. Changes to the arrays stay in memory.

    Raises:
        UserError: the file is missing, truncated, changed, or not written by Tauflow.
    """
    return _read(path, _mapped)


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a file of :func:`write_arrays`; return arrays and metadata.

    Raises:
        UserError: the file is missing, truncated, changed, or not written by Tauflow.
    """
    return _read(path, _loaded)


def os_error(error: SafetensorError) -> OSError:
    """Return the operating system's error that a message of safetensors quotes; EIO if it quotes none."""
    code = re.search(r"(?:code:|os error) (\d+)", str(error))
    number = int(code[1]) if code else errno.EIO
    return OSError(number, os.strerror(number))


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
            metadata = json.loads((file.metadata() or {}).get(METADATA_KEY, "null"))
            names = sorted(file.keys())
        arrays = load(path, names)
    except FileNotFoundError:
        raise missing(path) from None
    except (SafetensorError, OSError, ValueError, KeyError, RecursionError) as error:
        raise damaged(path, "damaged or not a safetensors file", error) from None
    if not isinstance(metadata, dict):
        raise damaged(path, "no Tauflow metadata, so its origin is unknown")
    if metadata.pop("sha256", None) != signature(arrays, metadata):
        raise damaged(path, "damaged, its content does not match its SHA-256")
    return arrays, metadata


def signature(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a file's arrays and metadata."""
    return sign(fingerprint(arrays), metadata)


def sign(content: str, metadata: Mapping[str, Any]) -> str:
    text = json.dumps(metadata, sort_keys=True)
    return hashlib.sha256(f"{content}\n{text}".encode()).hexdigest()


def fingerprint(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of the arrays' names, types, shapes and bytes, in any order of entries."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        add_to_digest(digest, name, arrays[name])
    return digest.hexdigest()


def add_to_digest(digest: "hashlib._Hash", name: str, array: np.ndarray) -> None:
    array = np.asarray(array, order="C")
    digest.update(title(name, array.dtype, array.shape))
    digest.update(array.reshape(-1).view(_BYTE).data)


def title(name: str, dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """Return what precedes an array's bytes in the fingerprint."""
    return f"{name} {dtype.str} {shape}\n".encode()
