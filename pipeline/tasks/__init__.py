"""Tasks: their definitions, their splits, their cards. Imports neither torch nor open_clip."""

from pipeline.tasks.card import TaskCard
from pipeline.tasks.images import LabelledImages
from pipeline.tasks.registry import TaskDefinition, load_task, task_names
from pipeline.tasks.splits import SPLITS, Split, read_split, read_unlabelled, write_split

__all__ = [
    "SPLITS",
    "LabelledImages",
    "Split",
    "TaskCard",
    "TaskDefinition",
    "load_task",
    "read_split",
    "read_unlabelled",
    "task_names",
    "write_split",
]
