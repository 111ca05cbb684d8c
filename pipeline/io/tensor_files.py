"""Tensor files read and written one tensor at a time, so that task vectors larger than memory can be merged."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from pipeline.errors import UserError, damaged, missing
from pipeline.io.arrays import METADATA_KEY, add_to_digest, header, sign, title
from pipeline.io.files import allocate, atomic_write, require_space

_FLOAT32 = np.dtype("<f4")
_PIECE = 1 << 20


class TensorFile(Mapping[str, np.ndarray]):
    """The float32 arrays of a Tauflow file, each read from disk on access.

    They are not memory-mapped, because mapped pages count as the process's memory until the system reclaims them.

    Raises:
        UserError: the file is missing, damaged, not Tauflow's, or holds tensors of another type than float32.
    """

    metadata: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = json.loads((file.metadata() or {}).get(METADATA_KEY, "null"))
            with path.open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                self._layout = json.loads(file.read(size))
        except FileNotFoundError:
            raise missing(path) from None
        except (SafetensorError, OSError, ValueError, RecursionError) as error:
            raise damaged(path, "not a readable safetensors file", error) from None
        if not isinstance(metadata, dict):
            raise damaged(path, "no Tauflow metadata, so its origin is unknown")
        self._layout.pop("__metadata__")
        if any(entry["dtype"] != "F32" for entry in self._layout.values()):
            raise damaged(path, "holds tensors of another type than float32")
        self._start = 8 + size
        self.shapes = {name: tuple(entry["shape"]) for name, entry in self._layout.items()}
        self.sha256 = metadata.pop("sha256", None)
        self.metadata = metadata
        if self.sha256 != sign(self._fingerprint(), metadata):
            raise damaged(path, "damaged, its content does not match its SHA-256")

    def __getitem__(self, name: str) -> np.ndarray:
        array = np.empty(self.shapes[name], _FLOAT32)
        self.read_into(name, array)
        return array

    def read_into(self, name: str, array: np.ndarray) -> None:
        """Read an array into one of its shape, which is contiguous."""
        begin, end = self._layout[name]["data_offsets"]
        with self.path.open("rb", buffering=0) as file:
            file.seek(self._start + begin)
            content = array.reshape(-1).view(np.uint8).data
            while begin < end:
                if not (count := file.readinto(content)):
                    raise UserError(f"{self.path}: ends within tensor {name!r}; make it again")
                content, begin = content[count:], begin + count

    def _fingerprint(self) -> str:
        """Return the fingerprint of the arrays, without holding a whole one."""
        digest, piece = hashlib.sha256(), memoryview(bytearray(_PIECE))
        with self.path.open("rb", buffering=0) as file:
            for name in self:
                begin, end = self._layout[name]["data_offsets"]
                digest.update(title(name, _FLOAT32, self.shapes[name]))
                file.seek(self._start + begin)
                while begin < end and (count := file.readinto(piece[: end - begin])):
                    digest.update(piece[:count])
                    begin += count
        return digest.hexdigest()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._layout))

    def __len__(self) -> int:
        return len(self._layout)


def write_together(
    outputs: Mapping[Path, Mapping[str, Any]],
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Iterator[tuple[str, list[np.ndarray]]],
) -> None:
    """Write several files of float32 arrays with the same names and shapes together: all of them or none.

    The bytes are those of :func:`pipeline.io.arrays.write_arrays`.

    Args:
        outputs: metadata by path of the file.
        shapes: shapes of the arrays, by name.
        tensors: sorted by name, each with one array per file.
    """
    layout = {name: (_FLOAT32, shapes[name]) for name in sorted(shapes)}
    for directory in {path.parent for path in outputs}:
        needed = sum(4 * int(np.prod(shape)) for shape in shapes.values())
        count = sum(path.parent == directory for path in outputs)
        require_space(directory, count * needed, "merged task vectors")
    digests = [hashlib.sha256() for _ in outputs]
    with ExitStack() as stack:
        paths = [stack.enter_context(atomic_write(path)) for path in outputs]
        files = [stack.enter_context(path.open("r+b")) for path in paths]
        for file, metadata in zip(files, outputs.values(), strict=True):
            start = header(layout, metadata, "0" * 64)  # as long as the hash that is known at the end
            allocate(file, len(start) + sum(4 * int(np.prod(shape)) for shape in shapes.values()))
            file.write(start)
        for name, arrays in tensors:
            for file, digest, array in zip(files, digests, arrays, strict=True):
                content = np.asarray(array, _FLOAT32, order="C")
                add_to_digest(digest, name, content)
                file.write(content.reshape(-1).view(np.uint8).data)
        for file, digest, metadata in zip(files, digests, outputs.values(), strict=True):
            file.seek(0)
            file.write(header(layout, metadata, sign(digest.hexdigest(), metadata)))
            file.flush()
