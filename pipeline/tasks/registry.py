"""Definitions of tasks: one YAML file each in ``pipeline/definitions/tasks/``."""

import unicodedata
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from pipeline.config import Definition, NamedDefinition, load_definition
from pipeline.tasks.text import comparable

_DEFINITIONS = Path(__file__).parents[1] / "definitions" / "tasks"


def _check_text(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError(f"{text!r} must be one line that is not blank")
    return text


Text = Annotated[str, Field(min_length=1), AfterValidator(_check_text)]


class MiniSource(Definition):
    """A task made from the compact sources under ``data/mini/``, which are committed."""

    kind: Literal["mini"]


class SplitFiles(Definition):
    """The parquet files of a split.

    files: a glob over the repository's paths.
    first: number of files taken, in sorted order; ``None``: all.
    """

    files: Annotated[str, Field(pattern=r"\.parquet$")]
    first: Annotated[int, Field(ge=1)] | None

    def of(self, paths: Iterable[str]) -> list[str]:
        """Return the ``paths`` that belong to the split, in order."""
        return sorted(path for path in paths if fnmatchcase(path, self.files))[: self.first]


class SplitSources(Definition):
    """The files of a hub dataset's splits; where ``val`` is ``None``, it is cut from ``train``."""

    train: SplitFiles
    val: SplitFiles | None
    test: SplitFiles

    def named(self) -> dict[str, SplitFiles]:
        """Return the splits that the dataset ships, by name."""
        splits = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in splits.items() if split is not None}


class HubSource(Definition):
    """A dataset on the Hugging Face hub, in parquet files.

    revision: a branch, a tag or a commit. The first download records the commit, which later ones use (docs/data.md).
    image, label: the columns; images are structs of ``bytes`` and ``path``, labels integers.
    image_size: height and width of every image if all have the same, else ``None``.
    class_names: the dataset's own names in the order of its labels, if they differ from ``classes``.
    """

    kind: Literal["hub"]
    repository: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Text
    image: Text
    label: Text
    image_size: Annotated[int, Field(ge=1)] | None
    splits: SplitSources
    class_names: list[Text] | None


class FolderSource(Definition):
    """Image files on this machine: ``class/image.jpg``, below directories of splits or not (docs/data.md).

    path: relative to the repository's root, or absolute.
    directories: the classes' directories, in the order of the classes; ``None``: they have the classes' names.
    image_size: as in :class:`HubSource`.
    test_fraction: the share of the images that becomes ``test``, drawn at random, if there is no directory for it.
    """

    kind: Literal["folder"]
    path: Text
    directories: list[Text] | None
    image_size: Annotated[int, Field(ge=1)] | None
    test_fraction: Annotated[float, Field(gt=0, lt=1)]


Source = Annotated[MiniSource | HubSource | FolderSource, Field(discriminator="kind")]


class TaskDefinition(NamedDefinition):
    """A classification task: its classes, prompts and the source of its images.

    ``classes`` are in the order of the labels. Each template holds exactly one ``{}``, for the class name.
    ``version`` increases with every change of images, labels, classes or templates.
    """

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
    def _check_templates(cls, templates: list[str]) -> list[str]:
        for template in templates:
            if template.count("{}") != 1 or set("{}") & set(template.replace("{}", "")):
                raise ValueError(
                    f"{template!r} is not a template; write exactly one {{}}, which becomes the class name, and no "
                    "other braces"
                )
        return templates

    @field_validator("classes")
    @classmethod
    def _check_classes(cls, classes: list[str]) -> list[str]:
        seen: dict[str, str] = {}
        for name in classes:
            other = seen.setdefault(comparable(name), name)
            if other is not name or not comparable(name):
                raise ValueError(f"{other!r} and {name!r} are the same name in a prompt; rename or merge the classes")
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
        if names is not None and len({unicodedata.normalize("NFC", name) for name in names}) < len(names):
            raise ValueError("source: two classes have the same directory or name; name each once")
        return self


def task_names() -> list[str]:
    """Return the names of all tasks, sorted."""
    return sorted(_files())


def load_task(name: str) -> TaskDefinition:
    """Return the definition of a task.

    Raises:
        UserError: there is no such task, or its file is invalid.
    """
    return load_definition("task", name, _files(), TaskDefinition)


def _files() -> dict[str, Path]:
    return {path.stem: path for path in _DEFINITIONS.glob("*.yaml")}
