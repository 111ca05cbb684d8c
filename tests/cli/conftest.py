"""A small project of made-up artifacts, as the stages would leave them, and a way to run commands in it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from artifacts import layout
from pipeline.editing import TaskVector, write_task_vector
from pipeline.evaluation.correctness import write_correct
from pipeline.images import LabelledImages, write_split
from pipeline.io.arrays import write_arrays
from pipeline.models.checkpoints import Provenance
from pipeline.models.heads import Head, write_head
from tauflow.cli import app
from tauflow.dvc.composition import compose

MODEL, RECIPE = "mini-clip", "standard"
TASKS, CONTROL = ["optdigits", "textures"], "emoji"
CLASSES, FEATURES, IMAGES = 4, 5, 24
BASE = "ab" * 32

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Runs ``tauflow`` with arguments, in this process."""

    def run_command(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    return run_command


@pytest.fixture(scope="session")
def parameters(root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny suite with two paradigms; the first edits in tangent space and needs no encoder."""
    path = tmp_path_factory.mktemp("parameters") / "params.yaml"
    compose(root, ["suite=tiny", "paradigm=main", "paradigms=[posthoc,ntk]"], path)
    return path.read_text(encoding="utf-8")


@pytest.fixture
def project(root: Path, tmp_path: Path, parameters: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An otherwise empty directory with parameters and dvc.yaml, which is also the current one."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(root / "dvc.yaml", tmp_path)
    Path("params.yaml").write_text(parameters, encoding="utf-8")
    return tmp_path


@pytest.fixture
def vectors(project: Path) -> dict[str, TaskVector]:
    """Task vectors of one recipe on the disk."""
    random = torch.Generator().manual_seed(0)
    shapes = {"conv1.weight": (3, 2), "block.attn.in_proj_weight": (4, 2), "block.attn.in_proj_bias": (4,)}
    task_vectors = {
        task: TaskVector(
            {name: torch.randn(shape, generator=random) for name, shape in shapes.items()},
            Provenance(MODEL, (task,), RECIPE, "weight", BASE, 0, "cd" * 32),
        )
        for task in TASKS
    }
    for task, vector in task_vectors.items():
        write_task_vector(layout.task_vector(MODEL, RECIPE, task), vector)
    return task_vectors


@pytest.fixture
def features(project: Path) -> dict[tuple[str, str], np.ndarray]:
    """Splits, heads, tangent features and single-task results on the disk; returns the features by split and task."""
    random = np.random.default_rng(0)
    by_split = {}
    for task in (*TASKS, CONTROL):
        weight = torch.from_numpy(random.standard_normal((CLASSES, FEATURES), np.float32))
        write_head(layout.head(MODEL, task), Head(weight, [f"class {i}" for i in range(CLASSES)]), {})
        for split in ("val", "test"):
            images = random.integers(0, 256, (IMAGES, 3, 2, 2), dtype=np.uint8)
            labels = random.integers(0, CLASSES, IMAGES)
            write_split(layout.split(task, split), LabelledImages(images, labels), {})
            by_split[split, task] = random.standard_normal((IMAGES, 1 + len(TASKS), FEATURES)).astype(np.float32)
            write_arrays(layout.features(MODEL, RECIPE, split, task), {"features": by_split[split, task]}, {})
    single = {task: random.random(IMAGES) < 0.75 for task in TASKS}
    write_correct(layout.correctness(MODEL, "posthoc", "single_task"), {"single_task": single}, {})
    return by_split
