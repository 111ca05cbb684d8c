"""Reading ``dvc.lock``, also while DVC writes it."""

import os
import threading
import time
from pathlib import Path

import pytest

from tauflow.dvc import lockfile
from tauflow.dvc.lockfile import outputs, parameters, read_lock, read_settled_lock
from tauflow.tracking.store import _shown

FIRST = "stages:\n  head@a:\n    cmd: c\n    outs:\n    - path: p\n      md5: '12'\n"
SECOND = "  head@b:\n    params:\n      params.yaml:\n        seed: 0\n        recipe.x: {a: null, b: {c: [1]}}\n"


@pytest.mark.parametrize("content", ["", "sche", "stages:", "stages:\n  head@a:\n", "stages:\n  head@a:\n  cmd: ["])
def test_half_a_file_has_no_entries(content: str, tmp_path: Path) -> None:
    assert read_lock(tmp_path) == {}
    (tmp_path / "dvc.lock").write_text(content)
    assert read_lock(tmp_path) == {}


def test_entries(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text(FIRST + SECOND)
    lock = read_lock(tmp_path)
    assert list(lock) == ["head@a", "head@b"]
    assert outputs(lock["head@a"]) == {"p": "12"}
    assert parameters(lock["head@a"]) == {}
    assert parameters(lock["head@b"]) == {"seed": 0, "recipe.x.a": None, "recipe.x.b.c": [1]}


def test_a_file_that_is_being_written_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of it is valid YAML."""
    monkeypatch.setattr(lockfile, "SETTLED_SECONDS", 0.4)
    monkeypatch.setattr(lockfile, "MAX_WAIT_SECONDS", 60.0)
    path = tmp_path / "dvc.lock"
    path.write_text(FIRST)

    def write_the_rest() -> None:
        time.sleep(0.2)
        with path.open("a") as file:
            file.write(SECOND)

    writer = threading.Thread(target=write_the_rest)
    writer.start()
    entries = read_settled_lock(tmp_path)
    writer.join()
    assert list(entries) == ["head@a", "head@b"]


def test_writing_without_end_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockfile, "MAX_WAIT_SECONDS", 0.1)
    path = tmp_path / "dvc.lock"
    path.write_text(FIRST)
    ahead = time.time() + 1000
    os.utime(path, (ahead, ahead))
    assert list(read_settled_lock(tmp_path)) == ["head@a"]


def test_each_parameter_of_a_run_has_one_value() -> None:
    """The report depends on `recipe` and on `derived.recipe`; MLflow refuses a run in which a parameter comes twice."""
    shown = _shown({"derived.recipe.ntk.start": None, "recipe.ntk.start": "x", "seed": 0, "derived.recipes": ["ntk"]})
    assert shown == {"recipe.ntk.start": None, "seed": 0}
