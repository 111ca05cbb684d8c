"""The tasks that exist: one YAML file each in ``pipeline/definitions/tasks/``."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.config import load_yaml
from pipeline.errors import UserError

_DEFINITIONS = Path(__file__).parents[1] / "definitions" / "tasks"

Text = Annotated[str, Field(min_length=1)]


class MiniSource(BaseModel):
    """Made from the compact sources that are committed under ``data/mini/``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["mini"]


class SplitFiles(BaseModel):
    """The parquet files of a split: a glob over the repository's paths, or only the first so many of those, sorted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: Annotated[str, Field(pattern=r"\.parquet$")]
    first: Annotated[int, Field(ge=1)] | None

    def of(self, paths: Iterable[str]) -> list[str]:
        """Those of ``paths`` that belong to the split, in order."""
        return sorted(path for path in paths if fnmatchcase(path, self.files))[: self.first]


class SplitSources(BaseModel):
    """What the splits of a hub dataset are made from; without a ``val`` of its own, it is cut from ``train``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: SplitFiles
    val: SplitFiles | None
    test: SplitFiles

    def named(self) -> dict[str, SplitFiles]:
        """Those that the dataset ships, by name."""
        splits = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in splits.items() if split is not None}


class HubSource(BaseModel):
    """A dataset on the Hugging Face hub, in parquet files.

    revision: a branch, a tag or a commit. The commit that it stands for at the first download is recorded, and taken
    from then on (docs/data.md).
    image, label: the columns; images are structs of ``bytes`` and ``path``, labels integers.
    image_size: height and width of every image where all have the same, else ``None``.
    class_names: the dataset's own names in the order of its labels, where ``classes`` are others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["hub"]
    repository: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Text
    image: Text
    label: Text
    image_size: Annotated[int, Field(ge=1)] | None
    splits: SplitSources
    class_names: list[Text] | None


class FolderSource(BaseModel):
    """Image files on this machine: ``class/image.jpg``, below ``train/``, ``val/`` and ``test/`` or not (docs/data.md).

    path: relative to the repository's root, or absolute.
    directories: the classes' directories, in the order of the classes; ``None``: they are called as the classes.
    image_size: as in :class:`HubSource`.
    test_fraction: the share of the images that becomes ``test``, drawn at random, where there is no ``test/``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["folder"]
    path: Text
    directories: list[Text] | None
    image_size: Annotated[int, Field(ge=1)] | None
    test_fraction: Annotated[float, Field(gt=0, lt=1)]


Source = Annotated[MiniSource | HubSource | FolderSource, Field(discriminator="kind")]


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
    source: Source
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

    @model_validator(mode="after")
    def _source_fits_the_classes(self) -> "TaskDefinition":
        match self.source:
            case HubSource(class_names=names) | FolderSource(directories=names):
                pass
            case _:
                names = None
        if names is not None and len(names) != len(self.classes):
            raise ValueError(f"source: {len(names)} names but {len(self.classes)} classes; name each class once")
        return self


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
