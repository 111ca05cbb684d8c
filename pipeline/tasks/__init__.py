"""Tasks: their definitions, their images, their splits. Imports neither torch nor open_clip."""

from pipeline.tasks.card import TaskCard
from pipeline.tasks.images import LabelledImages
from pipeline.tasks.registry import TaskDefinition, load_task, task_names
from pipeline.tasks.splits import SPLITS, Split, prepare_splits, read_split, read_unlabelled, write_split

__all__ = [
    "SPLITS",
    "LabelledImages",
    "Split",
    "TaskCard",
    "TaskDefinition",
    "load_task",
    "prepare_splits",
    "read_split",
    "read_unlabelled",
    "task_names",
    "write_split",
]
