"""Getting a task's original images, whatever its source."""

from pathlib import Path

from pipeline.errors import UserError
from pipeline.sources.mini import materialise
from pipeline.tasks import LabelledImages, TaskDefinition


def download(definition: TaskDefinition, sources: Path) -> dict[str, LabelledImages]:
    """The original splits of a task.

    Args:
        definition: the task.
        sources: directory of the mini suite's committed sources.

    Raises:
        UserError: a source is missing or damaged.
    """
    try:
        return materialise(definition.name, sources)
    except ValueError as error:
        raise UserError(f"task {definition.name}: {error}") from error
