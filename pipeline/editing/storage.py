"""Task vectors as files."""

from pathlib import Path

from pipeline.editing.task_vector import TaskVector
from pipeline.models.checkpoints import read_tensors, write_tensors


def write_task_vector(path: Path, vector: TaskVector) -> None:
    """Write a task vector as safetensors."""
    write_tensors(path, vector.tensors, vector.provenance)


def read_task_vector(path: Path) -> TaskVector:
    """Read a task vector."""
    return TaskVector(*read_tensors(path))
