"""What ``params.yaml`` may say: one frozen pydantic model per section."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.config.derived import derive, needed_recipes

# Strict: YAML's `yes` and `true` are no numbers.
PositiveInt = Annotated[int, Field(gt=0, strict=True)]
PositiveFloat = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
Switch = Annotated[bool, Field(strict=True)]
Seed = Annotated[int, Field(ge=0, strict=True)]


class Section(BaseModel):
    """A section of ``params.yaml``: frozen, unknown keys rejected, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PrepareSettings(Section):
    """Sizes and seed of the splits, and height and width of their images.

    ``max_images`` limits every split, ``control_train_images`` the control's ``train``, which only regularisers see. At
    ``resolution`` ``None`` images keep their size.
    """

    val_fraction: Fraction
    val_max: PositiveInt
    val_seed: Seed
    max_images: PositiveInt | None
    control_train_images: PositiveInt | None
    resolution: PositiveInt | None


class PaddedCrop(Section):
    """Shifts by up to ``padding`` pixels in each direction, which repeat the border; images keep their size."""

    kind: Literal["padded_crop"]
    padding: Annotated[int, Field(ge=0, strict=True)]


class ResizedCrop(Section):
    """CLIP's: a crop of a share of the area drawn from ``scale``, of sides 3:4 to 4:3, bicubic to the model's size."""

    kind: Literal["resized_crop"]
    scale: tuple[PositiveFraction, PositiveFraction]

    @model_validator(mode="after")
    def _is_a_range(self) -> "ResizedCrop":
        if self.scale[1] < self.scale[0]:
            raise ValueError(f"scale {list(self.scale)} goes down; the second number must be at least the first")
        return self


class FinetuneSettings(Section):
    """Hyper-parameters that all tasks and recipes of a suite share.

    What may be ``null`` replaces, where it is given: ``lr`` every recipe's own, ``steps`` every task's epochs,
    ``warmup_steps`` the share ``warmup`` of the steps. The global batch of ``batch_size`` images is divided among
    ``processes`` (GPUs, through torchrun), and each process's share into ``accumulation`` micro-batches: neither
    changes what is computed, only the order of summation. ``precision`` ``auto`` is bf16 autocast on a GPU, else fp32.
    ``checkpointing`` computes activations twice instead of keeping them, with the same gradients; ``compile`` is
    torch.compile, in weight space only.
    """

    lr: PositiveFloat | None
    batch_size: PositiveInt
    weight_decay: Annotated[float, Field(ge=0)]
    steps: PositiveInt | None
    warmup: Fraction
    warmup_steps: Annotated[int, Field(ge=0, strict=True)] | None
    max_grad_norm: PositiveFloat
    augmentation: Annotated[PaddedCrop | ResizedCrop, Field(discriminator="kind")]
    precision: Literal["auto", "fp32", "bf16"]
    accumulation: PositiveInt
    processes: PositiveInt
    checkpointing: Switch
    compile: Switch


class Schedule(Section):
    """How a suite trains one recipe: peak learning rate, and its length as a multiple of each task's epochs."""

    lr: PositiveFloat
    length: PositiveFloat


class ResumeSettings(Section):
    """How often a fine-tuning saves what it can be resumed from; the numbers do not depend on it."""

    interval: PositiveInt


class OtherTasks(Section):
    """Unlabelled training images of other tasks that a regulariser sees: ``batch_size`` of each task in turn.

    ``cyclic`` takes one other task per step, ``strict`` all of them in every step. The task that is being learnt is
    left out; ``control: null`` leaves out the control.
    """

    tasks: list[str]
    control: str | None
    mode: Literal["cyclic", "strict"]
    batch_size: PositiveInt

    def named(self) -> list[str]:
        """The tasks and, if it is included, the control."""
        return [*self.tasks, *([self.control] if self.control else [])]


class RegulariserSettings(Section):
    """A registered regulariser, its weight λ, its own options and the images it needs, if any."""

    name: str
    weight: Annotated[float, Field(ge=0)]
    options: dict[str, str | float | bool]
    others: OtherTasks | None


class Extension(Section):
    """A Python file of this repository that registers a selection or a regulariser; run only if its hash is right."""

    path: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Recipe(Section):
    """How task vectors are made: what trains, in which space, with which regulariser (design §4).

    ``start`` names a recipe whose task vectors τ training starts from, at θ₀ + τ instead of θ₀.
    """

    trainable: str
    trained_in: Literal["weight", "tangent"]
    regulariser: RegulariserSettings | None
    extension: Extension | None
    start: str | None

    def others_of(self, task: str) -> list[str]:
        """The tasks whose unlabelled images the regulariser sees while ``task`` is being learnt."""
        others = self.regulariser.others if self.regulariser else None
        return [name for name in others.named() if name != task] if others else []


class ImportedRecipe(Section):
    """A recipe whose task vectors ``tauflow import`` brought: nothing trains. ``trained_in`` is where they were."""

    trained_in: Literal["weight", "tangent"]


class Range(Section):
    """Equally spaced numbers, both ends included."""

    min: float
    max: float
    points: PositiveInt

    @model_validator(mode="after")
    def _is_a_range(self) -> "Range":
        if self.max < self.min:
            raise ValueError(f"max {self.max} is less than min {self.min}; max must be at least min")
        if self.points == 1 and self.max > self.min:
            raise ValueError(f"one point cannot reach from min {self.min} to max {self.max}; take 2 or more")
        return self

    def values(self) -> list[float]:
        """The numbers in ascending order, rounded so that 0.15 is printed as 0.15."""
        if self.points == 1:
            return [self.min]
        step = (self.max - self.min) / (self.points - 1)
        return [round(self.min + i * step, 10) for i in range(self.points)]


class Grid(Range):
    """Coefficients that are searched."""

    min: Annotated[float, Field(ge=0)]
    max: Annotated[float, Field(ge=0)]


class Paradigm(Section):
    """A recipe's task vectors and the space in which their edits live (design §4).

    ``negation_grid`` replaces ``search.negation`` where it is given.
    """

    recipe: str
    evaluated_in: Literal["weight", "tangent"]
    negation_grid: Grid | None


class SearchSettings(Section):
    """Grids of the coefficient search and the constraint that negation must keep.

    ``per_task_rounds``: how often at most a coordinate search over tasks goes round; 0 leaves per-task coefficients
    out. In tangent space only, where an edit costs next to nothing.
    """

    addition: Grid
    negation: Grid
    control_retention: Fraction
    per_task_rounds: Annotated[int, Field(ge=0, strict=True)]


class EvaluationSettings(Section):
    """How evaluation runs, and with it its memory; the numbers do not depend on it.

    batch_size: images at once.
    directions: task vectors that are propagated at once through the linearised encoder.
    edits: edited models that are evaluated at once in weight space, each with weights of its own in memory; ``null``:
    as many as was measured to be fastest for such a device and encoder.
    """

    batch_size: PositiveInt
    directions: PositiveInt
    edits: PositiveInt | None


class AnalysisSettings(Section):
    """The test images that analyses see: at most so many of each task, drawn at random."""

    images: PositiveInt
    seed: Seed


class DisentanglementSettings(Section):
    """The coefficients of either task vector in the disentanglement error."""

    grid: Range


class LocalisationSettings(Section):
    """NTK localisation: images per task, eigenfunctions per pair, the random weights' seed, memory in MiB."""

    images: PositiveInt
    eigenfunctions: PositiveInt
    random_seed: Seed
    memory: PositiveInt


class IncrementalSettings(Section):
    """Incremental learning: tasks arrive in an order drawn with each of these seeds; none: it is left out."""

    orders: list[Seed]


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


class Choices(Section):
    """What somebody chooses in ``params.yaml``; its other entries follow from these."""

    suite: str
    models: list[str]
    tasks: list[str]
    control: str
    paradigms: list[str]
    seed: Seed
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
    prepare: PrepareSettings
    finetune: FinetuneSettings
    epochs: dict[str, PositiveInt]
    schedule: dict[str, Schedule]
    recipe: dict[str, Recipe]
    imported: dict[str, ImportedRecipe]
    paradigm: dict[str, Paradigm]
    resume: ResumeSettings
    search: SearchSettings
    evaluation: EvaluationSettings
    intervals: IntervalSettings
    analysis: AnalysisSettings
    disentanglement: DisentanglementSettings
    localisation: LocalisationSettings
    incremental: IncrementalSettings

    @model_validator(mode="after")
    def _names_are_known(self, info: Any) -> "Choices":  # a ValidationInfo, which no runtime check can see
        legal = info.context
        if legal is not None:
            _check_names("models", self.models, legal.models)
            _check_names("tasks", self.tasks, legal.tasks)
            _check_names("control", [self.control], legal.tasks)
        _check_names("paradigms", self.paradigms, sorted(self.paradigm))
        if self.control in self.tasks:
            raise ValueError(f"control: {self.control!r} is among the tasks; the control must be another task")
        for name in self.paradigms:
            _check_names(f"paradigm.{name}.recipe", [self.paradigm[name].recipe], self._recipe_names())
        return self

    @model_validator(mode="after")
    def _recipes_have_one_origin(self) -> "Choices":
        for name in sorted(self.recipe.keys() & self.imported.keys()):
            raise ValueError(f"imported: {name!r} is a recipe that trains as well; give one of them another name")
        for name, recipe in self.recipe.items():
            if recipe.start is None:
                continue
            _check_names(f"recipe.{name}.start", [recipe.start], self._recipe_names())
            if recipe.start in self.recipe and self.recipe[recipe.start].start is not None:
                raise ValueError(f"recipe.{name}.start: {recipe.start!r} has a start itself; name one that has none")
        return self

    def _recipe_names(self) -> list[str]:
        return sorted({*self.recipe, *self.imported})

    @model_validator(mode="after")
    def _orders_are_named_once(self) -> "Choices":
        if len(set(self.incremental.orders)) < len(self.incremental.orders):
            raise ValueError(f"incremental.orders: {self.incremental.orders} names an order twice; name each once")
        return self

    @model_validator(mode="after")
    def _tables_are_complete(self) -> "Choices":
        for task in self.tasks:
            if task not in self.epochs:
                raise ValueError(f"epochs: no entry for task {task!r}; say how many epochs it trains")
        for name in needed_recipes(self):
            if name in self.imported:
                continue
            if name not in self.schedule:
                raise ValueError(f"schedule: no entry for recipe {name!r}; say its lr and length on this suite")
            regulariser = self.recipe[name].regulariser
            if regulariser and regulariser.others:
                others = regulariser.others.named()
                _check_names(f"recipe.{name}.regulariser.others", others, [*self.tasks, self.control])
        return self


class Parameters(Choices):
    """The whole of ``params.yaml``."""

    datasets: list[str]
    recipes: list[str]
    imported_recipes: list[str]
    trained_recipes: list[str]
    plain_recipes: list[str]
    regularised_recipes: list[str]
    continued: dict[str, dict[str, str]]
    tangent_recipes: list[str]
    evaluations: dict[str, dict[str, str]]
    arrivals: dict[str, list[str]]
    incremental_recipes: list[str]
    incremental_tangent_recipes: list[str]
    incremental_evaluations: dict[str, dict[str, str]]

    @model_validator(mode="after")
    def _derived_entries_are_current(self) -> "Parameters":
        expected = derive(self)
        for key, value in expected.items():
            if getattr(self, key) != value:
                raise ValueError(
                    f"{key}: follows from other entries and must be {value}; "
                    "`tauflow compose` and `dvc exp run -S` write it"
                )
        return self
