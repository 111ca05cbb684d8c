"""What ``params.yaml`` may say: one frozen pydantic model per section."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Strict: YAML's `yes` and `true` are no numbers.
PositiveInt = Annotated[int, Field(gt=0, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, strict=True)]


class Section(BaseModel):
    """A section of ``params.yaml``: frozen, unknown keys rejected, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PrepareSettings(Section):
    """Sizes and seed of the splits."""

    val_fraction: Fraction
    val_max: PositiveInt
    val_seed: Seed
    max_images: PositiveInt | None


class FinetuneSettings(Section):
    """Hyper-parameters that all tasks of a suite share."""

    lr: Annotated[float, Field(gt=0)]
    batch_size: PositiveInt
    weight_decay: Annotated[float, Field(ge=0)]
    warmup: Fraction
    max_grad_norm: Annotated[float, Field(gt=0)]
    crop_padding: Annotated[int, Field(ge=0, strict=True)]


class Paradigm(Section):
    """How a model is fine-tuned, and in which space its edits live (design §4)."""

    trainable: str
    trained_in: Literal["weight", "tangent"]
    evaluated_in: Literal["weight", "tangent"]


class Grid(Section):
    """Equally spaced coefficients, both ends included."""

    min: Annotated[float, Field(ge=0)]
    max: Annotated[float, Field(ge=0)]
    points: PositiveInt

    @model_validator(mode="after")
    def _is_a_range(self) -> "Grid":
        if self.max < self.min:
            raise ValueError(f"max {self.max} is less than min {self.min}; max must be at least min")
        if self.points == 1 and self.max > self.min:
            raise ValueError(f"one point cannot reach from min {self.min} to max {self.max}; take 2 or more")
        return self

    def values(self) -> list[float]:
        """The coefficients in ascending order, rounded so that 0.15 is printed as 0.15."""
        if self.points == 1:
            return [self.min]
        step = (self.max - self.min) / (self.points - 1)
        return [round(self.min + i * step, 10) for i in range(self.points)]


class SearchSettings(Section):
    """Grids of the coefficient search and the constraint that negation must keep."""

    addition: Grid
    negation: Grid
    control_retention: Fraction


class EvaluationSettings(Section):
    """How evaluation runs; the numbers do not depend on it."""

    batch_size: PositiveInt


class IntervalSettings(Section):
    """Bootstrap intervals over test images."""

    confidence: Annotated[float, Field(gt=0, lt=1)]
    resamples: PositiveInt
    seed: Seed


def _check_names(key: str, given: list[str], legal: list[str]) -> None:
    for name in given:
        if name not in legal:
            raise ValueError(f"{key}: {name!r} is unknown; legal are {', '.join(legal)}")
    if len(set(given)) < len(given):
        raise ValueError(f"{key}: {given} names something twice; name each once")
    if not given:
        raise ValueError(f"{key}: [] is empty; legal are {', '.join(legal)}")


class Parameters(Section):
    """The whole of ``params.yaml``."""

    suite: str
    models: list[str]
    tasks: list[str]
    control: str
    datasets: list[str]
    paradigms: list[str]
    seed: Seed
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
    prepare: PrepareSettings
    finetune: FinetuneSettings
    epochs: dict[str, PositiveInt]
    paradigm: dict[str, Paradigm]
    search: SearchSettings
    evaluation: EvaluationSettings
    intervals: IntervalSettings

    @model_validator(mode="after")
    def _names_are_known(self, info: Any) -> "Parameters":  # a ValidationInfo, which no runtime check can see
        legal = info.context
        if legal is not None:
            _check_names("models", self.models, legal.models)
            _check_names("tasks", self.tasks, legal.tasks)
            _check_names("control", [self.control], legal.tasks)
        _check_names("paradigms", self.paradigms, sorted(self.paradigm))
        if self.control in self.tasks:
            raise ValueError(f"control: {self.control!r} is among the tasks; the control must be another task")
        if self.datasets != [*self.tasks, self.control]:
            expected = ", ".join([*self.tasks, self.control])
            raise ValueError(f"datasets: {self.datasets} must be the tasks and the control: [{expected}]")
        for task in self.tasks:
            if task not in self.epochs:
                raise ValueError(f"epochs: no entry for task {task!r}; say how many epochs it trains")
        return self
