"""Task vectors of several tasks of the tiny encoder."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.editing import TaskVector, write_task_vector
from tests.conftest import VectorFactory

TaskVectorsFactory = Callable[..., list[TaskVector]]


@pytest.fixture(scope="session")
def make_vectors(make_vector: VectorFactory) -> TaskVectorsFactory:
    """Makes seeded random task vectors of tasks a, b, c …, which share a direction and differ in size."""

    def make(tasks: int = 3, seed: int = 0, part: str = "") -> list[TaskVector]:
        shared = make_vector(1000 + seed, part=part)
        task_vectors = [make_vector(seed + t, scale=0.1 * (1 + t), part=part) + 0.5 * shared for t in range(tasks)]
        return [TaskVector(v.tensors, replace(v.provenance, tasks=(chr(97 + t),))) for t, v in enumerate(task_vectors)]

    return make


@pytest.fixture
def write_vectors(tmp_path: Path) -> Callable[[list[TaskVector]], Mapping[str, Path]]:
    """Writes task vectors and returns their paths by task."""

    def write(vectors: list[TaskVector]) -> dict[str, Path]:
        paths = {v.provenance.tasks[0]: tmp_path / "vectors" / f"{i}.safetensors" for i, v in enumerate(vectors)}
        for path, vector in zip(paths.values(), vectors, strict=True):
            write_task_vector(path, vector)
        return paths

    return write


def total(vectors: list[TaskVector]) -> dict[str, torch.Tensor]:
    """Return the merged vector, in float64."""
    names = vectors[0].tensors
    return {name: torch.stack([v.tensors[name].double() for v in vectors]).sum(0) for name in names}
