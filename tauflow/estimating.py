"""What a reproduction would cost: steps, disk, memory and time of every stage, from sizes and a short calibration."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from pipeline.analysis.localisation import count_gradients
from pipeline.config import Parameters
from pipeline.tasks import Split, load_task
from stages.training import read_plan
from tauflow.calibration import Calibration, ModelCost, StepCost
from tauflow.layout import incremental_recipe
from tauflow.task_sizes import TaskSize, task_size


@dataclass(frozen=True)
class Work:
    """What a stage instance does, in units that a calibration measures.

    group: the row of the table that it counts in.
    model, recipe: whose cost the units have; a recipe only where something is trained.
    epochs, steps: of training. embeds: images through an encoder. propagates: images through the linearised encoder.
    encodes: prompts through the text encoder. differentiates: rows of the Jacobian of a kernel, from the bytes of one.
    writes: bytes, of which only the model's and the recipe's cost may know.
    unknown: a task whose size nobody knows yet, for want of which nothing can be said.
    """

    name: str
    group: str
    model: str | None = None
    recipe: str | None = None
    epochs: float = 0.0
    steps: int = 0
    embeds: int = 0
    propagates: int = 0
    encodes: int = 0
    differentiates: Callable[[int], int] = lambda row: 0
    writes: Callable[[ModelCost | None, StepCost | None], int] = lambda model, step: 0
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """One row: all instances of a stage or, where something is trained, those of a model and recipe."""

    group: str
    instances: int
    epochs: float
    steps: int
    written_bytes: int
    peak_bytes: int | None
    seconds: float
    unknown: tuple[str, ...]


def estimate(params: Parameters, stale: Sequence[str], device: torch.device) -> list[Estimate]:
    """The rows of the given stage instances; those of which no time is worth saying are left out.

    Raises:
        UserError: a model, task or recipe is wrong.
    """
    chosen = [work for work in works(params) if work.name in set(stale)]
    models: dict[str, ModelCost] = {}
    steps: dict[tuple[str, str], StepCost] = {}
    for model in dict.fromkeys(work.model for work in chosen if work.model):
        calibration = Calibration(params, model, device)
        models[model] = calibration.of_model()
        for recipe in dict.fromkeys(work.recipe for work in chosen if work.model == model and work.recipe):
            steps[model, recipe] = calibration.of_step(params.recipe[recipe])
    groups = dict.fromkeys(work.group for work in chosen)
    return [_sum([work for work in chosen if work.group == group], models, steps) for group in groups]


def _sum(works: Sequence[Work], models: Mapping[str, ModelCost], steps: Mapping[tuple[str, str], StepCost]) -> Estimate:
    seconds, written, peak = 0.0, 0, None
    for work in works:
        model = models.get(work.model or "")
        step = steps.get((work.model or "", work.recipe or ""))
        written += work.writes(model, step)
        if model:
            seconds += work.embeds * model.embed + work.propagates * model.propagate + work.encodes * model.encode
            seconds += work.differentiates(model.encoder_bytes) * model.differentiate
        if step:
            seconds += work.steps * step.seconds
            peak = step.peak_bytes
    unknown = tuple(dict.fromkeys(task for work in works for task in work.unknown))
    epochs, total = sum(work.epochs for work in works), sum(work.steps for work in works)
    return Estimate(works[0].group, len(works), epochs, total, written, peak, seconds, unknown)


def works(params: Parameters) -> Iterator[Work]:
    """Every stage instance whose cost can be told beforehand, by the name that DVC gives it."""
    sizes = {task: task_size(params, task) for task in params.datasets}
    for task, size in sizes.items():
        packed = size.packed_bytes if size else None
        fetched = size.download_bytes if size else None
        unknown = () if packed else (task,)
        yield Work(f"download@{task}", "download", writes=lambda m, s, n=fetched or packed or 0: n, unknown=unknown)
        yield Work(f"prepare@{task}", "prepare", writes=lambda m, s, n=packed or 0: n, unknown=unknown)
    for model in params.models:
        yield Work(f"pretrained@{model}", "pretrained", model, writes=_weights)
        for task in params.datasets:
            definition = load_task(task)
            prompts = len(definition.classes) * len(definition.templates)
            yield Work(f"head@{model}-{task}", f"head {model}", model, encodes=prompts)
        yield from _training(params, model, sizes)
        yield from _features(params, model, sizes)
        yield _localisation(params, model, sizes)
    for name, of in params.evaluations.items():
        in_tangent_space = params.paradigm[of["paradigm"]].evaluated_in == "tangent"
        if in_tangent_space:
            continue  # from features: matrix products
        counts, model, unknown = _Counts(params, sizes), of["model"], _unknown(sizes)
        for kind, embeds in _embedded(params, of["paradigm"], counts).items():
            propagates = embeds // (1 + len(params.tasks)) if kind == "interference" else 0
            group = f"{kind} {model} in weight space"
            yield Work(f"{kind}@{name}", group, model, embeds=embeds, propagates=propagates, unknown=unknown)


def _weights(model: ModelCost | None, step: StepCost | None) -> int:
    return model.weights_bytes if model else 0


def _trained(model: ModelCost | None, step: StepCost | None) -> int:
    return step.trained_bytes if step else 0


def _training(params: Parameters, model: str, sizes: Mapping[str, TaskSize | None]) -> Iterator[Work]:
    runs = [("finetune", recipe, recipe, "") for recipe in params.plain_recipes]
    runs += [("finetune_regularised", recipe, recipe, "") for recipe in params.regularised_recipes]
    runs += [
        ("finetune_incremental", recipe, incremental_recipe(recipe, str(order)), f"-{order}")
        for recipe in params.regularised_recipes
        for order in params.incremental.orders
    ]
    for kind, recipe, vectors, suffix in runs:
        for task in params.tasks:
            plan, size = read_plan(params, task, recipe), sizes[task]
            batch = params.finetune.batch_size
            per_epoch = max(1, size.counts["train"] // batch) if size else 0
            steps = plan.count_steps(per_epoch) if size or plan.steps else 0
            yield Work(
                f"{kind}@{model}-{task}-{recipe}{suffix}",
                f"{kind} {model} {recipe}",
                model,
                recipe,
                epochs=steps / per_epoch if per_epoch else 0.0,
                steps=steps,
                writes=_trained,
                unknown=() if steps else (task,),
            )
            after = "task_vector_incremental" if suffix else "task_vector"
            yield Work(f"{after}@{model}-{task}-{vectors}", f"{after} {model} {recipe}", model, recipe, writes=_trained)


def _features(params: Parameters, model: str, sizes: Mapping[str, TaskSize | None]) -> Iterator[Work]:
    parts = 1 + len(params.tasks)
    recipes = [("features", recipe) for recipe in params.tangent_recipes]
    recipes += [("features_incremental", recipe) for recipe in params.incremental_tangent_recipes]
    splits: tuple[Split, ...] = ("val", "test")
    for kind, recipe in recipes:
        for split in splits:
            n = sum(size.counts[split] for size in sizes.values() if size)
            yield Work(
                f"{kind}@{model}-{recipe}-{split}",
                f"{kind} {model}",
                model,
                propagates=n,
                writes=lambda m, s, n=n: 4 * parts * n * m.features if m else 0,
                unknown=_unknown(sizes),
            )


def _localisation(params: Parameters, model: str, sizes: Mapping[str, TaskSize | None]) -> Work:
    """A kernel of all tasks' images at pre-trained weights, and one at random ones."""
    settings = params.localisation
    n = _Counts(params, sizes).tasks("test", settings.images)

    def gradients(row: int) -> int:
        return 2 * count_gradients(row, n, settings.memory * 2**20)

    return Work(
        f"localisation@{model}", f"localisation {model}", model, differentiates=gradients, unknown=_unknown(sizes)
    )


@dataclass(frozen=True)
class _Counts:
    """Images of the splits; 0 where the size is not known."""

    params: Parameters
    sizes: Mapping[str, TaskSize | None]

    def of(self, task: str, split: Split) -> int:
        size = self.sizes[task]
        return size.counts[split] if size else 0

    def tasks(self, split: Split, most: int | None = None) -> int:
        """Of all tasks but the control, at most so many of each."""
        return sum(min(self.of(task, split), most or self.of(task, split)) for task in self.params.tasks)


def _embedded(params: Parameters, paradigm: str, counts: _Counts) -> dict[str, int]:
    """How many images every evaluation in weight space embeds, each edited model's anew."""
    tasks, control = len(params.tasks), params.control
    grid = params.paradigm[paradigm].negation_grid or params.search.negation
    points = params.disentanglement.grid.points
    most = params.analysis.images
    val, test, sample = counts.tasks("val"), counts.tasks("test"), counts.tasks("test", most)
    return {
        "single_task": 2 * test + counts.of(control, "test"),
        "alpha_search": (1 + params.search.addition.points) * val
        + grid.points * (val + tasks * counts.of(control, "val")),
        "addition": 2 * test,
        "negation": 2 * (test + tasks * counts.of(control, "test")),
        # Along one axis once, and every point of a grid with every other task; α = 1 besides.
        "disentanglement": sample * (points + 1 + (tasks - 1) * (points**2 + 1)),
        "interference": (tasks + 1) * (sample + min(most, counts.of(control, "test"))),
    }


def _unknown(sizes: Mapping[str, TaskSize | None]) -> tuple[str, ...]:
    return tuple(task for task, size in sizes.items() if size is None)
