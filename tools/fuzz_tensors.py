"""Fuzz safetensors files: our writers against the library's reader, and our readers against hostile headers.

    .venv/bin/python -m tools.fuzz_tensors --files 10000 --seed 0

The library must read back, bit for bit, what our writers write. Given a file whose header or content was changed, our
readers must say in one line what is wrong, or return what the library returns. `--only N` tries one file.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Annotated, Any

import numpy as np
import typer
from safetensors import safe_open

from pipeline.errors import UserError
from pipeline.io.arrays import METADATA_KEY, map_arrays, read_arrays, write_arrays, write_streamed
from pipeline.io.tensor_files import TensorFile, write_together

Arrays = dict[str, np.ndarray]
# Names that JSON, a terminal or a file system could take for something else.
NAMES = ["weight", "", "a.b", "α", '"', "\\", "a\nb", "\x1b[31m", "{}", "dtype", "\u2028", "🙂", "0", "../x", "n" * 300]
# Values for entries of a header, of every type.
_KINDS = ("F32", "F64", "U8", "BF16")
VALUES: list[Any] = [None, -1, 0, 1, 2**63, 2**64, 1.5, "", *_KINDS, [], [0], [-1], [2**62, 8], {}, True]


class BrokenError(Exception):
    """An invariant does not hold."""


def draw_arrays(random: Random, kinds: list[str]) -> Arrays:
    """Return arrays of odd names and shapes."""
    arrays = {}
    for name in random.sample(NAMES, random.randint(1, 4)):
        shape = [random.choice((0, 1, 2, 3)) for _ in range(random.randint(0, 3))]
        dtype = np.dtype(random.choice(kinds))
        count = int(np.prod(shape)) * dtype.itemsize
        arrays[name] = np.frombuffer(random.randbytes(count), dtype).reshape(shape)
    return arrays


def write(random: Random, path: Path) -> Arrays:
    """Write arrays with one of our writers; return them."""
    metadata: dict[str, Any] = {name: random.choice(VALUES) for name in random.sample(NAMES, 2)}
    match random.randrange(3):
        case 0:
            arrays = draw_arrays(random, ["<f4", "<f8", "|u1", "<i8", "<i2", "|b1"])
            # Random bytes are not valid booleans. `np.asarray`: a comparison without dimensions is a scalar.
            arrays = {name: np.asarray(array != 0) if array.dtype == bool else array for name, array in arrays.items()}
            write_arrays(path, arrays, metadata)
        case 1:
            arrays = draw_arrays(random, ["<f4"])
            shapes = {name: array.shape for name, array in arrays.items()}
            write_together({path: metadata}, shapes, ((name, [arrays[name]]) for name in sorted(arrays)))
        case _:
            name, *others = sorted(draw_arrays(random, ["|u1"]))
            rows = np.frombuffer(random.randbytes(12), np.uint8).reshape(4, 3)
            wide = {other: np.arange(random.randint(0, 3)) for other in others}
            write_streamed(path, name, rows.shape, np.split(rows, [random.randint(0, 4)]), wide, metadata)
            arrays = {name: rows, **wide}
    return arrays


def by_library(path: Path) -> Arrays:
    """Return a file's arrays as the library reads them."""
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)


def same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    """Return whether arrays are equal bit for bit."""

    def content(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[object, ...]]:
        return {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}

    return content(one) == content(other)


def change(random: Random, content: bytes) -> bytes:
    """Return a file with a changed header or body, such as accident or malice would leave it."""
    size = int.from_bytes(content[:8], "little")
    header, body = content[8 : 8 + size], content[8 + size :]
    match random.randrange(6):
        case 0:  # bytes
            changed = bytearray(content)
            for _ in range(random.randint(1, 4)):
                changed[random.randrange(len(changed))] = random.randrange(256)
            return bytes(changed)
        case 1:
            return content[: random.randrange(len(content))]
        case 2:  # the size of the header
            wrong = random.choice((0, 1, size - 1, size + 8, 2**31, 2**63, 2**64 - 1))
            return wrong.to_bytes(8, "little") + content[8:]
        case 3:
            deep = b'{"a":' * random.choice((10, 100_000))
            return len(deep).to_bytes(8, "little") + deep + body
    parsed = json.loads(header)
    text = json.dumps(_changed(random, parsed), ensure_ascii=False).encode()
    if random.random() < 0.2:  # a name twice
        text = text[:-1] + b"," + text[1:]
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def _changed(random: Random, header: dict[str, Any]) -> dict[str, Any]:
    """Change an entry of a header, or remove, rename or add one."""
    name = random.choice(list(header))
    match random.randrange(5):
        case 0:
            return {key: value for key, value in header.items() if key != name}
        case 1:
            return {random.choice(NAMES) if key == name else key: value for key, value in header.items()}
        case 2:
            return {**header, random.choice(NAMES): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}
        case 3:
            return {**header, "__metadata__": {METADATA_KEY: random.choice(("", "[]", "{}", "[" * 9999, "null"))}}
    entry = header[name]
    if isinstance(entry, dict) and entry:
        return {**header, name: {**entry, random.choice(list(entry)): random.choice(VALUES)}}
    return {**header, name: random.choice(VALUES)}


def _tensor_file(path: Path) -> Arrays:
    return dict(TensorFile(path))


READERS: dict[str, Callable[[Path], Arrays]] = {
    "read_arrays": lambda path: read_arrays(path)[0],
    "map_arrays": lambda path: map_arrays(path)[0],
    "TensorFile": _tensor_file,
}


def fuzz(seed: int, number: int, directory: Path) -> None:
    """Write a file, read it, change it, and read it again.

    Raises:
        BrokenError: an invariant does not hold.
    """
    random, path = Random(f"{seed} {number}"), directory / "file"
    arrays = write(random, path)
    if not same(arrays, by_library(path)) or not same(arrays, read_arrays(path)[0]):
        raise BrokenError(f"arrays {sorted(arrays)} do not come back")
    path.write_bytes(change(random, path.read_bytes()))
    for name, read in READERS.items():
        try:
            result = read(path)
        except UserError as error:
            if "\n" in str(error):
                raise BrokenError(f"{name}: more than one line") from error
        except Exception as error:
            raise BrokenError(f"{name}: {error!r}") from error
        else:
            expected: Arrays | None = None
            with suppress(Exception):
                expected = by_library(path)
            if expected is None or not same(result, expected):
                raise BrokenError(f"{name} reads what the library does not")


def main(
    files: Annotated[int, typer.Option(min=1, help="Number of files.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of the random choices.")] = 0,
    only: Annotated[int | None, typer.Option(help="Try only the file of this number.")] = None,
) -> None:
    """Fuzz files; exit code 1 at the first for which something does not hold."""
    with tempfile.TemporaryDirectory() as directory:
        for number in range(files) if only is None else (only,):
            try:
                fuzz(seed, number, Path(directory))
            except BrokenError as error:
                sys.exit(f"error: --seed {seed} --only {number}: {error}")
    print(f"{files if only is None else 1} files, no problem")


if __name__ == "__main__":
    typer.run(main)
