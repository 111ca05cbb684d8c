"""Task vectors, their algebra and storage.

``spaces``, in which task vectors edit a model, is not imported here: it imports open_clip, which takes seconds.
"""

from pipeline.editing.storage import read_task_vector, write_task_vector
from pipeline.editing.task_vector import TaskVector, sum_vectors

__all__ = [
    "TaskVector",
    "read_task_vector",
    "sum_vectors",
    "write_task_vector",
]
