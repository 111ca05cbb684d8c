"""Tasks: their definitions and their cards. Imports neither torch nor open_clip."""

from pipeline.tasks.card import TaskCard
from pipeline.tasks.registry import TaskDefinition, load_task, task_names

__all__ = ["TaskCard", "TaskDefinition", "load_task", "task_names"]
