"""The tasks that exist: one YAML file each in ``pipeline/definitions/tasks/``."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipeline.config import load_yaml
from pipeline.errors import UserError

_DEFINITIONS = Path(__file__).parents[1] / "definitions" / "tasks"

Text = Annotated[str, Field(min_length=1)]


class MiniSource(BaseModel):
    """Made from the compact sources that are committed under ``data/mini/``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["mini"]


class TaskDefinition(BaseModel):
    """A classification task: what its images show and where they come from.

    ``classes`` stand in the order of the labels; each template holds one ``{}`` for the class name.
    ``version`` grows with every change that alters images, labels, classes or templates.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text
    version: Annotated[int, Field(ge=1)]
    description: Text
    classes: Annotated[list[Text], Field(min_length=2)]
    templates: Annotated[list[Text], Field(min_length=1)]
    source: MiniSource
    origin: Text
    licence: Text
    citation: Text

    @field_validator("templates")
    @classmethod
    def _one_place_for_the_class(cls, templates: list[str]) -> list[str]:
        for template in templates:
            if template.count("{}") != 1:
                raise ValueError(f"{template!r} must hold exactly one {{}} for the class name")
        return templates

    @field_validator("classes")
    @classmethod
    def _classes_differ(cls, classes: list[str]) -> list[str]:
        if len(set(classes)) < len(classes):
            raise ValueError("two classes have the same name")
        return classes


def task_names() -> list[str]:
    """The names of all tasks, sorted."""
    return sorted(path.stem for path in _DEFINITIONS.glob("*.yaml"))


def load_task(name: str) -> TaskDefinition:
    """The definition of a task.

    Raises:
        UserError: there is no such task, or its file is wrong.
    """
    path = _DEFINITIONS / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"task {name!r} is unknown; legal are {', '.join(task_names())}")
    definition = load_yaml(path, TaskDefinition)
    if definition.name != name:
        raise UserError(f"{path}: name is {definition.name!r} but must be the file's, {name!r}")
    return definition
