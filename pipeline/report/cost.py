"""What a training step of each paradigm costs, from a record of ``benchmarks.training_steps``.

Times are no output of the pipeline: they would not be the same bytes twice. The record is committed; it is another
machine's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.config import Paradigm, Recipe
from pipeline.errors import UserError
from pipeline.files import read_json

STANDARD = "standard"

Positive = Annotated[float, Field(gt=0)]


class Step(BaseModel):
    """Medians of one variant: wall-clock and CPU seconds, images per second, bytes beside weights and images."""

    model_config = ConfigDict(frozen=True)

    seconds: Positive
    cpu_seconds: Positive
    images_per_second: Positive
    step_bytes: Annotated[int, Field(ge=0)]


class Record(BaseModel):
    """What ``python -m benchmarks.training_steps --json FILE`` writes, as far as the report shows it."""

    model_config = ConfigDict(frozen=True)

    model: str
    batch: int
    size: int
    threads: int
    device: str
    precision: str
    other_batch: int
    other_tasks: int
    torch: str
    machine: str
    variants: dict[str, Step]

    @classmethod
    def read(cls, path: Path) -> "Record":
        """Read a record.

        Raises:
            UserError: the file is missing, no record, or lacks the standard step.
        """
        try:
            record = cls.model_validate(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise UserError(f"{path}: {key}: {first['msg']}; {_again(path)}") from None
        if STANDARD not in record.variants:
            raise UserError(f"{path}: has no variant {STANDARD!r}, which the others are compared with; {_again(path)}")
        return record

    @property
    def timed_by(self) -> Literal["time", "CPU time"]:
        """On a CPU, CPU time is what other work on the machine disturbs least."""
        return "CPU time" if self.device == "cpu" else "time"

    def describe(self) -> str:
        """The setting in words."""
        return (
            f"batch {self.batch}, {self.size} × {self.size} images, {self.device}"
            f"{f', {self.threads} thread(s)' if self.device == 'cpu' else ''}, {self.precision}, torch {self.torch}, "
            f"{self.machine}; forward and backward without the optimiser; τJp on {self.other_batch} images of "
            "another task"
        )


@dataclass(frozen=True)
class Cost:
    """A paradigm's training step.

    relative: its time over that of the standard step.
    """

    variant: str
    milliseconds: float
    relative: float
    images_per_second: float
    memory_mib: float


def paradigm_costs(record: Record, paradigms: Mapping[str, Paradigm], recipes: Mapping[str, Recipe]) -> dict[str, Cost]:
    """The costs of those paradigms whose training step was measured.

    Args:
        record: of the model.
        paradigms: by name; one that trains nothing costs what its recipe does.
        recipes: by name; imported ones, which train nowhere, are not among them.
    """
    variants = {name: step_variant(recipes[of.recipe]) for name, of in paradigms.items() if of.recipe in recipes}
    return {name: _cost(record, variant) for name, variant in variants.items() if variant in record.variants}


def step_variant(recipe: Recipe) -> str | None:
    """The benchmark's name for a recipe's training step, by its parts; ``None`` if it has none."""
    regulariser = recipe.regulariser
    if regulariser is None:
        variant = {"weight": STANDARD, "tangent": "tangent"}[recipe.trained_in]
        if recipe.trainable == "all":
            return variant
        if recipe.trainable == "attention":
            return "attention" if variant == STANDARD else "attention, tangent"
    elif (regulariser.name, recipe.trainable, recipe.trained_in) == ("tau_jp", "all", "tangent") and regulariser.others:
        return f"tau_jp {regulariser.others.mode}"
    return None


def cost_table(costs: Mapping[str, Cost], paradigms: Mapping[str, Paradigm], timed_by: str) -> pd.DataFrame:
    """One row per paradigm; cells are formatted text, empty where nothing was measured."""
    rows = {}
    for name in paradigms:
        of = costs.get(name)
        rows[name] = {
            f"{timed_by} of a step, ms": f"{of.milliseconds:.0f}" if of else "",
            "against standard": f"{of.relative:.2f}" if of else "",
            "images per second": f"{of.images_per_second:.0f}" if of else "",
            "memory of a step, MiB": f"{of.memory_mib:.0f}" if of else "",
            "measured as": of.variant if of else "",
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "paradigm"
    return table


def _cost(record: Record, variant: str) -> Cost:
    def seconds(step: Step) -> float:
        return step.cpu_seconds if record.device == "cpu" else step.seconds

    step, standard = record.variants[variant], record.variants[STANDARD]
    relative = seconds(step) / seconds(standard)
    return Cost(variant, 1e3 * seconds(step), relative, record.batch / seconds(step), step.step_bytes / 2**20)


def _again(path: Path) -> str:
    return f"make it again with `python -m benchmarks.training_steps --json {path}`"
