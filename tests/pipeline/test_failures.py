"""A failure stops the stage with one line that names it, and DVC caches nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.io.arrays import read_arrays, write_arrays
from tests.pipeline.conftest import Project

pytestmark = pytest.mark.pipeline

TRAIN = Path("data/tasks/train/textures.safetensors")
VECTOR = Path("data/task_vectors/mini-clip/standard/textures.safetensors")
FINETUNE, SEARCH = "finetune@mini-clip-textures-standard", "alpha_search@mini-clip-standard"


def replace(path: Path, content: bytes) -> None:
    """Replace a file that may be a read-only link into the cache."""
    path.unlink()
    path.write_bytes(content)


def corrupt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    replace(path, bytes(content))


def truncate(path: Path) -> None:
    replace(path, path.read_bytes()[: path.stat().st_size // 2])


def mislabel(path: Path) -> None:
    arrays, metadata = read_arrays(path)
    path.unlink()
    write_arrays(path, {**arrays, "labels": np.full_like(arrays["labels"], 10)}, metadata)


@pytest.mark.parametrize(
    ("instance", "path", "damage", "message"),
    [
        (FINETUNE, TRAIN, corrupt, "damaged"),
        (FINETUNE, TRAIN, truncate, "damaged"),
        (FINETUNE, TRAIN, Path.unlink, "no such file"),
        (FINETUNE, TRAIN, mislabel, "label 10 but only 10 classes"),
        (SEARCH, VECTOR, truncate, "damaged"),
        (SEARCH, VECTOR, corrupt, "damaged"),
    ],
)
def test_a_damaged_input_is_named_in_one_line(
    clone: Project, instance: str, path: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(clone.root / path)
    result = clone.stage(instance, check=False)
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if line.strip()]
    assert line.startswith(f"error: {instance}: ")
    assert str(path) in line
    assert message in line


def test_a_loss_that_is_no_number_stops_the_stage_and_caches_nothing(clone: Project) -> None:
    clone.set_parameter("finetune.lr", 1e30)
    before = sorted((clone.root / ".dvc" / "cache").rglob("*"))
    lock = (clone.root / "dvc.lock").read_bytes()
    result = clone.run("dvc", "repro", "-s", "finetune@mini-clip-textures-standard", check=False)
    assert result.returncode != 0
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert line.startswith("error: finetune@mini-clip-textures-standard: loss is")
    assert "finetune.lr" in line
    assert sorted((clone.root / ".dvc" / "cache").rglob("*")) == before
    assert (clone.root / "dvc.lock").read_bytes() == lock
    assert not list((clone.root / "data" / "checkpoints" / "mini-clip" / "standard").glob("*textures*"))


def test_an_unknown_task_is_one_line_with_the_legal_ones(clone: Project) -> None:
    clone.set_parameter("tasks", ["optdigits", "letters"])
    result = clone.run("tauflow", "check", check=False)
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert "letters" in line
    assert "textures" in line
