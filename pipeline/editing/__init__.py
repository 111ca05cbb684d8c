"""Task vectors, their algebra and storage, and the spaces in which they edit a model."""

from pipeline.editing.spaces import EditSpace, TangentSpace, WeightSpace
from pipeline.editing.storage import read_task_vector, write_task_vector
from pipeline.editing.task_vector import TaskVector, sum_vectors

__all__ = [
    "EditSpace",
    "TangentSpace",
    "TaskVector",
    "WeightSpace",
    "read_task_vector",
    "sum_vectors",
    "write_task_vector",
]
