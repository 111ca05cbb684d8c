"""A task's card: a JSON file with the facts about a task, besides its images, that later stages need."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import UserError
from pipeline.images.splits import Split
from pipeline.io.files import read_json, write_json
from pipeline.tasks.registry import TaskDefinition


class TaskCard(BaseModel):
    """A description of a prepared task and its source.

    counts: images per split.
    image_size: ``[height, width]``.
    val_seed: the seed of the permutation by which ``val`` was cut from ``train``; ``None``: the source ships ``val``.
    duplicates: number of images of one split that are in another, equal to the pixel: ``{"test in train": 3}``.
    two_labels: number of images that equal one of another class in the same split, per split.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: int
    description: str
    classes: list[str]
    templates: list[str]
    counts: dict[Split, int]
    image_size: tuple[int, int]
    val_seed: int | None = None
    duplicates: dict[str, int] = {}
    two_labels: dict[Split, int] = {}
    source: str
    licence: str
    citation: str

    @classmethod
    def of(
        cls,
        definition: TaskDefinition,
        counts: dict[Split, int],
        image_size: tuple[int, int],
        val_seed: int | None,
        duplicates: dict[str, int],
        two_labels: dict[Split, int],
    ) -> "TaskCard":
        """Return the card of a task whose splits were just prepared."""
        return cls(
            name=definition.name,
            version=definition.version,
            description=definition.description,
            classes=definition.classes,
            templates=definition.templates,
            counts=counts,
            image_size=image_size,
            val_seed=val_seed,
            duplicates=duplicates,
            two_labels=two_labels,
            source=definition.origin,
            licence=definition.licence,
            citation=definition.citation,
        )

    @classmethod
    def read(cls, path: Path) -> "TaskCard":
        """Read a card."""
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise UserError(f"{path}: {key}: {first['msg']}; run `dvc repro` again") from None

    def write(self, path: Path) -> None:
        """Write the card as JSON."""
        write_json(path, self.model_dump(mode="json"))
