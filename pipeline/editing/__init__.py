"""Task vectors, their algebra and storage; the spaces in which they edit a model are in ``spaces``.

Those import open_clip, which takes seconds that a stage without an encoder need not spend.
"""

from pipeline.editing.storage import read_task_vector, write_task_vector
from pipeline.editing.task_vector import TaskVector, sum_vectors

__all__ = [
    "TaskVector",
    "read_task_vector",
    "sum_vectors",
    "write_task_vector",
]
