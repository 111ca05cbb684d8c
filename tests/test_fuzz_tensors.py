"""`python -m tools.fuzz_tensors`, its quick form, and that it sees a writer or a reader that is wrong."""

from pathlib import Path

import numpy as np
import pytest

from tools import fuzz_tensors
from tools.fuzz_tensors import BrokenError, fuzz


def fuzz_files(directory: Path, count: int = 60) -> None:
    for number in range(count):
        fuzz(0, number, directory)


def test_files_come_back_and_changed_ones_are_refused(tmp_path: Path) -> None:
    fuzz_files(tmp_path, 500)


def test_a_reader_that_believes_everything_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_tensors, "READERS", {"careless": lambda path: {"weight": np.zeros(1)}})
    with pytest.raises(BrokenError, match="careless reads what the library does not"):
        fuzz_files(tmp_path)


def test_a_reader_that_breaks_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_tensors, "READERS", {"broken": lambda path: {}[path.read_text("utf-16")]})
    with pytest.raises(BrokenError, match="broken: Unicode"):
        fuzz_files(tmp_path)


def test_a_writer_that_is_wrong_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_tensors, "write_arrays", lambda path, arrays, metadata: path.write_bytes(b"\0" * 99))
    with pytest.raises(Exception, match=r"[Hh]eader"):
        fuzz_files(tmp_path)
