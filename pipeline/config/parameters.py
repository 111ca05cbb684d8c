"""The schema of ``params.yaml``: one frozen pydantic model per section."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.config.names import Name, check_keys, short

# Strict: YAML's `true` is not a number.
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
    """Shifts by up to ``padding`` pixels in each direction, repeating the border; images keep their size."""

    kind: Literal["padded_crop"]
    padding: Annotated[int, Field(ge=0, strict=True)]


class ResizedCrop(Section):
    """CLIP's crop: a share of the area drawn from ``scale``, aspect ratio 3:4 to 4:3, resized to the model's size."""

    kind: Literal["resized_crop"]
    scale: tuple[PositiveFraction, PositiveFraction]

    @model_validator(mode="after")
    def _is_a_range(self) -> "ResizedCrop":
        if self.scale[1] < self.scale[0]:
            raise ValueError(f"scale {list(self.scale)} goes down; the second number must be at least the first")
        return self


class FinetuneSettings(Section):
    """Hyper-parameters that all tasks and recipes of a suite share.

    Three may be ``null``; where given, ``lr`` replaces every recipe's own, ``steps`` every task's epochs, and
    ``warmup_steps`` the share ``warmup`` of the steps. The global batch of ``batch_size`` images is divided among
    ``processes`` (GPUs, through torchrun), and each process's share into ``accumulation`` micro-batches: both change
    only the order of summation. ``precision: auto`` is bf16 autocast on a GPU, else fp32. ``checkpointing`` recomputes
    activations instead of keeping them, with the same gradients; ``compile`` is torch.compile, in weight space only.
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
    """A suite's settings for one recipe: peak learning rate, and length as a multiple of each task's epochs."""

    lr: PositiveFloat
    length: PositiveFloat


class ResumeSettings(Section):
    """Steps between two saves of the state of a fine-tuning, from which it resumes; results do not depend on it."""

    interval: PositiveInt


class OtherTasks(Section):
    """Unlabelled training images of other tasks that a regulariser sees: ``batch_size`` of each task in turn.

    ``cyclic`` takes one other task per step, ``strict`` all of them in every step. The task being learnt is excluded;
    ``control: null`` excludes the control. ``arrivals`` is an order in which tasks arrive: only those before the task
    being learnt are seen. ``null``: all are there from the start.
    """

    tasks: list[Name]
    control: Name | None
    arrivals: list[Name] | None
    mode: Literal["cyclic", "strict"]
    batch_size: PositiveInt

    def named(self) -> list[str]:
        """Return the tasks and, if included, the control."""
        return [*self.tasks, *([self.control] if self.control else [])]


class RegulariserSettings(Section):
    """A registered regulariser, its weight λ, its options and the images it needs, if any."""

    name: Name
    weight: Annotated[float, Field(ge=0)]
    options: dict[Name, str | float | bool]
    others: OtherTasks | None


class Extension(Section):
    """A Python file of this repository that registers something by name; run only if its hash matches."""

    path: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Recipe(Section):
    """A way to make task vectors: the trained parameters, the space of training, the regulariser (design §4).

    ``start`` names a recipe whose task vectors τ training starts from, at θ₀ + τ instead of θ₀.
    """

    trainable: Name
    trained_in: Literal["weight", "tangent"]
    regulariser: RegulariserSettings | None
    extension: Extension | None
    start: Name | None

    @property
    def others(self) -> OtherTasks | None:
        """Return which images of other tasks the regulariser sees; ``None`` if it sees none."""
        return self.regulariser.others if self.regulariser else None

    @property
    def sees_others(self) -> bool:
        """Return whether the regulariser sees images of other tasks."""
        return self.others is not None

    def others_of(self, task: str) -> list[str]:
        """Return the tasks whose unlabelled images the regulariser sees while ``task`` is being learnt."""
        if self.others is None:
            return []
        named = [name for name in self.others.named() if name != task]
        if self.others.arrivals is None:
            return named
        arrived = self.others.arrivals[: self.others.arrivals.index(task)]
        return [name for name in named if name in arrived]


class ImportedRecipe(Section):
    """A recipe whose task vectors ``tauflow import`` made; nothing trains. ``trained_in``: the space they came from."""

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
        """Return the numbers in ascending order, rounded so that 0.15 prints as 0.15."""
        if self.points == 1:
            return [self.min]
        step = (self.max - self.min) / (self.points - 1)
        return [round(self.min + i * step, 10) for i in range(self.points)]


class Grid(Range):
    """The coefficients of a search."""

    min: Annotated[float, Field(ge=0)]
    max: Annotated[float, Field(ge=0)]


class MergingStep(Section):
    """A merging method or modifier, and its options that differ from the defaults in its signature."""

    name: Name
    options: dict[Name, bool | int | float | str]


class MergingImages(Section):
    """The images of every task that a merging method needs; never those of ``test``.

    statistic: the statistic of them that weights task vectors, of a stage of its own; ``null``: the method runs the
        encoder on the images themselves.
    split: where they come from.
    count: images per task, drawn at random with ``seed``; ``null``: all.
    """

    statistic: Literal["gram", "fisher"] | None
    split: Literal["train", "val"]
    count: PositiveInt | None
    seed: Seed


class MergingSettings(MergingStep):
    """How a recipe's task vectors are combined: a method, and modifiers that follow it, in this order.

    images: what the method sees of the tasks' images; ``null``: nothing.
    extension: a Python file that registers some of them.
    """

    images: MergingImages | None
    modifiers: list[MergingStep]
    extension: Extension | None

    def __str__(self) -> str:
        return " + ".join(step.name for step in (self, *self.modifiers))


class Paradigm(Section):
    """A recipe's task vectors, how they are merged, and the space in which their edits live (design §4).

    ``merging`` ``None`` leaves them as they are, so that their sum is combined. ``negation_grid``, if given, replaces
    ``search.negation``.
    """

    recipe: Name
    merging: MergingSettings | None
    evaluated_in: Literal["weight", "tangent"]
    negation_grid: Grid | None

    @property
    def merging_images(self) -> MergingImages | None:
        """Return what its merging method sees of the tasks' images, if anything."""
        return self.merging.images if self.merging else None


class SearchSettings(Section):
    """Grids of the coefficient search, and the share of the control's accuracy that negation must keep.

    ``per_task_rounds``: maximum number of rounds of the coordinate search over per-task coefficients, 0 for none; in
    tangent space only, where an edit costs next to nothing.
    """

    addition: Grid
    negation: Grid
    control_retention: Fraction
    per_task_rounds: Annotated[int, Field(ge=0, strict=True)]


class EvaluationSettings(Section):
    """Batch sizes of evaluation, which determine its memory; results do not depend on them.

    batch_size: images per batch.
    directions: task vectors propagated together through the linearised encoder.
    edits: edited models evaluated together in weight space, each with its own weights in memory; ``null``: the number
    measured to be fastest for the device and encoder.
    """

    batch_size: PositiveInt
    directions: PositiveInt
    edits: PositiveInt | None


class AnalysisSettings(Section):
    """The test images that analyses see: at most ``images`` per task, drawn at random."""

    images: PositiveInt
    seed: Seed


class DisentanglementSettings(Section):
    """The coefficients of each of the two task vectors in the disentanglement error."""

    grid: Range


class LocalisationSettings(Section):
    """NTK localisation: images per task, eigenfunctions per pair, seed of the random weights, memory in MiB."""

    images: PositiveInt
    eigenfunctions: PositiveInt
    random_seed: Seed
    memory: PositiveInt


class IncrementalSettings(Section):
    """Incremental learning: one order of arrival is drawn with each seed; without seeds it is left out."""

    orders: list[Seed]


class MergingSearch(Section):
    """The search for the coefficient of a merged vector.

    weight, tangent: the grid in each space.
    refinements: how often its step is halved around its best α.
    """

    weight: Grid
    tangent: Grid
    refinements: Annotated[int, Field(ge=0, strict=True)]

    def grid(self, space: str) -> Grid:
        """Return the coefficients to try in the space of that name."""
        return self.tangent if space == "tangent" else self.weight


class MergingGridSettings(Section):
    """Merging methods that are compared with the sum of the task vectors.

    paradigms: those whose task vectors are merged, if the study has them; ``null``: all.
    methods: by name, their options without those left at the method's default; the method's signature checks them.
    """

    paradigms: list[Name] | None
    methods: dict[Name, dict[Name, Any]]
    search: MergingSearch

    @field_validator("methods")
    @classmethod
    def _sum_is_not_listed(cls, methods: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if "sum" in methods:
            raise ValueError("'sum' is what the others are compared with; leave it out")
        return methods


class IntervalSettings(Section):
    """Bootstrap intervals over test images."""

    confidence: Annotated[float, Field(gt=0, lt=1)]
    resamples: PositiveInt
    seed: Seed


def _check_names(key: str, names: list[str], legal: list[str]) -> None:
    for name in names:
        if name not in legal:
            raise ValueError(f"{key}: unknown name {short(name)}; choose from {', '.join(legal)}")
    if len(set(names)) < len(names):
        raise ValueError(f"{key}: {names} names something twice; name each once")
    if not names:
        raise ValueError(f"{key}: [] is empty; choose from {', '.join(legal)}")


class Choices(Section):
    """The entries of ``params.yaml`` that a user chooses; the others are derived from them."""

    suite: Name
    models: list[Name]
    tasks: list[Name]
    control: Name
    paradigms: list[Name]
    seed: Seed
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
    prepare: PrepareSettings
    finetune: FinetuneSettings
    epochs: dict[Name, PositiveInt]
    schedule: dict[Name, Schedule]
    recipe: dict[Name, Recipe]
    imported: dict[Name, ImportedRecipe]
    paradigm: dict[Name, Paradigm]
    resume: ResumeSettings
    search: SearchSettings
    evaluation: EvaluationSettings
    intervals: IntervalSettings
    analysis: AnalysisSettings
    disentanglement: DisentanglementSettings
    localisation: LocalisationSettings
    incremental: IncrementalSettings
    merging_grid: MergingGridSettings

    @model_validator(mode="after")
    def _names_are_known(self, info: Any) -> "Choices":  # a ValidationInfo, which runtime type checks cannot resolve
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

    @model_validator(mode="after")
    def _mergings_have_vectors_and_a_place(self) -> "Choices":
        for name in self.merged_paradigms():
            if len(self.tasks) < 2:
                raise ValueError(f"paradigm.{name}.merging: takes two or more tasks, not {self.tasks}; name more tasks")
            if name in self._recipe_names():
                raise ValueError(
                    f"paradigm.{name}.merging: merged task vectors lie under the paradigm's name, which is a recipe's "
                    "too; rename the paradigm"
                )
        return self

    def merged_paradigms(self) -> list[str]:
        """Return the chosen paradigms whose task vectors are merged."""
        return [name for name in self.paradigms if self.paradigm[name].merging]

    def vectors_of(self, paradigm: str) -> str:
        """Return the name that a paradigm's task vectors lie under: its own if they are merged, else its recipe's."""
        return paradigm if self.paradigm[paradigm].merging else self.paradigm[paradigm].recipe

    def needed_recipes(self) -> list[str]:
        """Return the recipes of the chosen paradigms' task vectors and the recipes that these start from, each once."""
        named = [self.paradigm[name].recipe for name in self.paradigms]
        starts = [self.recipe[name].start for name in named if name not in self.imported]
        return list(dict.fromkeys([*named, *(start for start in starts if start is not None)]))

    def _recipe_names(self) -> list[str]:
        return sorted({*self.recipe, *self.imported})

    @model_validator(mode="after")
    def _orders_are_named_once(self) -> "Choices":
        if len(set(self.incremental.orders)) < len(self.incremental.orders):
            raise ValueError(f"incremental.orders: {self.incremental.orders} names an order twice; name each once")
        return self

    @model_validator(mode="after")
    def _keys_differ(self) -> "Choices":
        """Check that the joined names of stage instances and of entries that DVC iterates over are unique."""
        orders = [str(seed) for seed in self.incremental.orders]
        recipes = self.needed_recipes()
        in_orders = [f"{recipe}_order_{order}" for recipe in recipes for order in orders]
        for name in sorted({*recipes, *self.merged_paradigms()} & {*in_orders}):
            raise ValueError(f"recipe: {name!r} is what incremental learning calls a recipe in an order; rename it")
        check_keys("models and paradigms", self.models, self.paradigms)
        check_keys("models, paradigms and orders", self.models, self.paradigms, orders)
        check_keys("models and tasks", self.models, [*self.tasks, self.control])
        check_keys("models, tasks and recipes", self.models, self.tasks, [*recipes, *in_orders])
        check_keys("models, merged paradigms and tasks", self.models, self.merged_paradigms(), self.tasks)
        check_keys("models and recipes", self.models, [*recipes, *in_orders, *self.merged_paradigms()])
        return self

    @model_validator(mode="after")
    def _tables_are_complete(self) -> "Choices":
        for task in self.tasks:
            if task not in self.epochs:
                raise ValueError(f"epochs: no entry for task {task!r}; say how many epochs it trains")
        for name in self.needed_recipes():
            if name in self.imported:
                continue
            if name not in self.schedule:
                raise ValueError(f"schedule: no entry for recipe {name!r}; say its lr and length on this suite")
            regulariser = self.recipe[name].regulariser
            if regulariser and regulariser.others:
                others = regulariser.others.named()
                _check_names(f"recipe.{name}.regulariser.others", others, [*self.tasks, self.control])
        return self
