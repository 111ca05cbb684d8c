"""Files on a disk that is full or refuses: one line that says where and what to do, and no temporary file."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.io import files
from pipeline.io.arrays import os_error, read_arrays, write_arrays, write_streamed
from pipeline.io.files import atomic_write, write_json


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without room for an allocation, as the file system says it."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "posix_fallocate", refuse)


@pytest.mark.usefixtures("no_room")
def test_a_large_file_is_refused_before_its_blocks_are_computed(tmp_path: Path) -> None:
    def blocks() -> Iterator[np.ndarray]:
        pytest.fail("computed for nothing")
        yield np.zeros(0)

    message = r"f: cannot be written: No space left on device, 40\.\d MB are needed \(\d.* MB are free at /.*make room"
    with pytest.raises(UserError, match=message):
        write_streamed(tmp_path / "f", "f", (10_000_000,), blocks(), {}, {}, np.dtype(np.float32))
    assert list(tmp_path.iterdir()) == []


def test_float32_blocks_give_the_bytes_of_one_array(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(11, 3, 2)).astype(np.float32)
    write_arrays(tmp_path / "whole", {"features": array}, {"task": "a"})
    parts = (array[start : start + 4] for start in (0, 4, 8))
    write_streamed(tmp_path / "parts", "features", array.shape, parts, {}, {"task": "a"}, array.dtype)
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
    assert np.array_equal(read_arrays(tmp_path / "parts")[0]["features"], array)


def test_a_disk_that_fills_up_while_writing(tmp_path: Path) -> None:
    def fill() -> None:
        with atomic_write(tmp_path / "x.json") as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(UserError, match=r"x\.json: cannot be written: No space left.*make room"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_errors_of_other_files_keep_their_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="other"), atomic_write(tmp_path / "x"):
        (tmp_path / "other").read_bytes()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/x\.json: cannot be written: (Not a directory|File exists)"):
        write_json(tmp_path / "file" / "x.json", {})


def test_an_error_that_safetensors_quotes() -> None:
    from safetensors import SafetensorError

    quoted = 'Error while serializing: I/O error: Os { code: 28, kind: StorageFull, message: "No space left" }'
    assert os_error(SafetensorError(quoted)).errno == errno.ENOSPC
    other = "Error while serializing: I/O error: Input/output error (os error 5)"
    assert os_error(SafetensorError(other)).errno == errno.EIO
    assert os_error(SafetensorError("Error while serializing: no number")).errno == errno.EIO


@pytest.mark.parametrize("path", ["/dev/full", "/dev/null", "."])
def test_a_device_or_folder_is_not_replaced(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mode = Path(path).stat().st_mode
    with pytest.raises(UserError, match="a folder or device, which a file cannot replace"):
        write_json(Path(path), {})
    assert Path(path).stat().st_mode == mode
