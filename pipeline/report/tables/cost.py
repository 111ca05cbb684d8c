"""The cost of a training step of each paradigm, from a record of ``benchmarks.training_steps``.

Times are not outputs of the pipeline, because their bytes would differ in every run. The record is committed, and was
usually measured on another machine than the study.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.config import Paradigm, Recipe
from pipeline.errors import UserError
from pipeline.io.files import read_json

STANDARD = "standard"

Positive = Annotated[float, Field(gt=0)]


class StepTiming(BaseModel):
    """Medians of one variant: seconds of wall and CPU time, images per second, bytes except weights and images."""

    model_config = ConfigDict(frozen=True)

    seconds: Positive
    cpu_seconds: Positive
    images_per_second: Positive
    step_bytes: Annotated[int, Field(ge=0)]


class TimingRecord(BaseModel):
    """The part of the output of ``python -m benchmarks.training_steps --json FILE`` that the report shows."""

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
    variants: dict[str, StepTiming]

    @classmethod
    def read(cls, path: Path) -> "TimingRecord":
        """Read a record.

        Raises:
            UserError: the file is missing, is not a record, or lacks the standard step.
        """
        try:
            record = cls.model_validate(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise UserError(f"{path}: {key}: {first['msg']}; {_again(path)}") from None
        if STANDARD not in record.variants:
            raise UserError(f"{path}: no variant {STANDARD!r}, with which the others are compared; {_again(path)}")
        return record

    @property
    def timed_by(self) -> Literal["time", "CPU time"]:
        """Return the kind of time to compare; on a CPU, other work on the machine disturbs CPU time least."""
        return "CPU time" if self.device == "cpu" else "time"

    def describe(self) -> str:
        """Describe the setting of the measurement."""
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


def paradigm_costs(
    record: TimingRecord, paradigms: Mapping[str, Paradigm], recipes: Mapping[str, Recipe]
) -> dict[str, Cost]:
    """Return the costs of the paradigms whose training step was measured.

    Args:
        record: the record of the model.
        paradigms: paradigms by name; a paradigm costs as much as its recipe.
        recipes: trained recipes by name.
    """
    variants = {
        name: step_variant(recipes[paradigm.recipe])
        for name, paradigm in paradigms.items()
        if paradigm.recipe in recipes
    }
    return {name: _cost(record, variant) for name, variant in variants.items() if variant in record.variants}


def step_variant(recipe: Recipe) -> str | None:
    """Return the benchmark's name for a recipe's training step, or ``None`` if it has none."""
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
    """Return one row per paradigm; cells are formatted text, empty where nothing was measured."""
    rows = {}
    for name in paradigms:
        cost = costs.get(name)
        rows[name] = {
            f"{timed_by} of a step, ms": f"{cost.milliseconds:.0f}" if cost else "",
            "against standard": f"{cost.relative:.2f}" if cost else "",
            "images per second": f"{cost.images_per_second:.0f}" if cost else "",
            "memory of a step, MiB": f"{cost.memory_mib:.0f}" if cost else "",
            "measured as": cost.variant if cost else "",
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "paradigm"
    return table


def _cost(record: TimingRecord, variant: str) -> Cost:
    def seconds(step: StepTiming) -> float:
        return step.cpu_seconds if record.device == "cpu" else step.seconds

    step, standard = record.variants[variant], record.variants[STANDARD]
    relative = seconds(step) / seconds(standard)
    return Cost(variant, 1e3 * seconds(step), relative, record.batch / seconds(step), step.step_bytes / 2**20)


def _again(path: Path) -> str:
    return f"make it again with `python -m benchmarks.training_steps --json {path}`"
