"""Count the work of stage instances in units that a calibration measures; one small function per stage."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from artifacts.fine_tuning import read_plan
from artifacts.instances import Instance
from pipeline.analysis.localisation import count_gradients
from pipeline.config import Parameters
from pipeline.images import Split
from pipeline.tasks import load_task
from tauflow.planning.calibration import ModelCost, StepCost
from tauflow.planning.task_sizes import TaskSize, task_size


@dataclass(frozen=True)
class Work:
    """The work of a stage instance.

    Args:
        epochs, steps: length of training.
        embeds: number of images through an encoder.
        propagates: number of images through the linearised encoder.
        encodes: number of prompts through the text encoder.
        differentiates: returns the number of rows of a kernel's Jacobian, given the bytes of a row.
        writes: returns the bytes written, given the costs of the model and of the recipe.
        unknown: tasks whose size is not known yet; their cost cannot be estimated.
    """

    epochs: float = 0.0
    steps: int = 0
    embeds: int = 0
    propagates: int = 0
    encodes: int = 0
    differentiates: Callable[[int], int] = lambda row: 0
    writes: Callable[[ModelCost | None, StepCost | None], int] = lambda model, step: 0
    unknown: tuple[str, ...] = ()


class Sizes:
    """The sizes of a study's tasks; an unknown size counts as 0."""

    def __init__(self, params: Parameters) -> None:
        self.params = params
        self.by_task: dict[str, TaskSize | None] = {task: task_size(params, task) for task in params.derived.datasets}

    def count(self, task: str, split: Split) -> int:
        """Return the number of images of a split."""
        size = self.by_task[task]
        return size.counts[split] if size else 0

    def tasks(self, split: Split, most: int | None = None) -> int:
        """Return the number of images of all tasks but the control, at most ``most`` of each."""
        counts = [self.count(task, split) for task in self.params.tasks]
        return sum(counts if most is None else (min(count, most) for count in counts))

    def datasets(self, split: Split) -> int:
        """Return the number of images of all tasks and the control."""
        return sum(self.count(task, split) for task in self.by_task)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Return the tasks whose size is not known."""
        return tuple(task for task, size in self.by_task.items() if size is None)


Keys = Mapping[str, str]
WORK: dict[str, Callable[[Sizes, Keys], Work]] = {}


def work(*stages: str) -> Callable[[Callable[[Sizes, Keys], Work]], Callable[[Sizes, Keys], Work]]:
    """Register a function as the work of these stages."""

    def register(function: Callable[[Sizes, Keys], Work]) -> Callable[[Sizes, Keys], Work]:
        WORK.update(dict.fromkeys(stages, function))
        return function

    return register


def works(params: Parameters, instances: Iterable[Instance]) -> dict[str, Work]:
    """Return the work of all instances whose cost can be estimated, by name."""
    sizes = Sizes(params)
    return {i.name: WORK[i.stage](sizes, i.keys) for i in instances if i.stage in WORK and _counts(params, i)}


def _counts(params: Parameters, instance: Instance) -> bool:
    """Return whether an instance takes notable time; edits in tangent space are just products of stored features.

    Merged vectors have no stored features.
    """
    paradigm = instance.keys.get("paradigm")
    if paradigm is None or instance.stage in ("merge", "merging_grid"):
        return True
    return params.paradigm[paradigm].evaluated_in != "tangent"


@work("download")
def _download(sizes: Sizes, keys: Keys) -> Work:
    size = sizes.by_task[keys["task"]]
    fetched = (size.download_bytes or size.packed_bytes) if size else None
    return _written(fetched, () if size and size.packed_bytes else (keys["task"],))


@work("prepare")
def _prepare(sizes: Sizes, keys: Keys) -> Work:
    size = sizes.by_task[keys["task"]]
    return _written(size.packed_bytes if size else None, () if size and size.packed_bytes else (keys["task"],))


def _written(count: int | None, unknown: tuple[str, ...]) -> Work:
    return Work(writes=lambda model, step: count or 0, unknown=unknown)


@work("pretrained")
def _pretrained(sizes: Sizes, keys: Keys) -> Work:
    return Work(writes=lambda model, step: model.weights_bytes if model else 0)


@work("head")
def _head(sizes: Sizes, keys: Keys) -> Work:
    definition = load_task(keys["task"])
    return Work(encodes=len(definition.classes) * len(definition.templates))


@work("finetune", "finetune_regularised", "finetune_continued")
def _finetune(sizes: Sizes, keys: Keys) -> Work:
    params, task = sizes.params, keys["task"]
    plan, train = read_plan(params, task, keys["recipe"]), sizes.count(task, "train")
    per_epoch = math.ceil(train / params.finetune.batch_size)
    steps = plan.count_steps(per_epoch) if train or plan.steps else 0
    epochs = steps / per_epoch if per_epoch else 0.0
    return Work(epochs=epochs, steps=steps, writes=_trained, unknown=() if steps else (task,))


@work("task_vector")
def _task_vector(sizes: Sizes, keys: Keys) -> Work:
    return Work(writes=_trained)


def _trained(model: ModelCost | None, step: StepCost | None) -> int:
    return step.trained_bytes if step else 0


@work("merge")
def _merge(sizes: Sizes, keys: Keys) -> Work:
    return Work(writes=lambda model, step: len(sizes.params.tasks) * _trained(model, step))


@work("features")
def _features(sizes: Sizes, keys: Keys) -> Work:
    parts, split = 1 + len(sizes.params.tasks), keys["split"]
    images = sizes.datasets("val" if split == "val" else "test")
    return Work(
        propagates=images,
        writes=lambda model, step: 4 * parts * images * model.features if model else 0,
        unknown=sizes.unknown,
    )


@work("single_task")
def _single_task(sizes: Sizes, keys: Keys) -> Work:
    control = sizes.count(sizes.params.control, "test")
    return Work(embeds=2 * sizes.tasks("test") + control, unknown=sizes.unknown)


@work("alpha_search")
def _alpha_search(sizes: Sizes, keys: Keys) -> Work:
    params = sizes.params
    addition = (1 + params.search.addition.points) * sizes.tasks("val")
    grid = params.paradigm[keys["paradigm"]].negation_grid or params.search.negation
    targets_and_controls = sizes.tasks("val") + len(params.tasks) * sizes.count(params.control, "val")
    return Work(embeds=addition + grid.points * targets_and_controls, unknown=sizes.unknown)


@work("addition")
def _addition(sizes: Sizes, keys: Keys) -> Work:
    return Work(embeds=2 * sizes.tasks("test"), unknown=sizes.unknown)


@work("negation")
def _negation(sizes: Sizes, keys: Keys) -> Work:
    controls = len(sizes.params.tasks) * sizes.count(sizes.params.control, "test")
    return Work(embeds=2 * (sizes.tasks("test") + controls), unknown=sizes.unknown)


@work("disentanglement")
def _disentanglement(sizes: Sizes, keys: Keys) -> Work:
    """Count each axis once, every grid point for every other task, and α = 1."""
    params = sizes.params
    tasks, points = len(params.tasks), params.disentanglement.grid.points
    sample = sizes.tasks("test", params.analysis.images)
    return Work(embeds=sample * (points + 1 + (tasks - 1) * (points**2 + 1)), unknown=sizes.unknown)


@work("interference")
def _interference(sizes: Sizes, keys: Keys) -> Work:
    params = sizes.params
    tasks, most = len(params.tasks), params.analysis.images
    images = sizes.tasks("test", most) + min(most, sizes.count(params.control, "test"))
    embeds = (tasks + 1) * images
    return Work(embeds=embeds, propagates=images, unknown=sizes.unknown)


@work("merging_grid")
def _merging_grid(sizes: Sizes, keys: Keys) -> Work:
    """Count the single-task models and every method's largest number of coefficients on val, and two on test.

    In tangent space each image is propagated once, in a direction per method instead of one per task; the single-task
    models' features are stored.
    """
    settings = sizes.params.merging_grid
    if sizes.params.paradigm[keys["paradigm"]].evaluated_in == "tangent":
        directions = len(settings.methods) * (sizes.tasks("val") + sizes.tasks("test"))
        return Work(propagates=round(directions / len(sizes.params.tasks)), unknown=sizes.unknown)
    tried = settings.search.weight.points + 2 * settings.search.refinements
    val = (1 + len(settings.methods) * tried) * sizes.tasks("val")
    return Work(embeds=val + 2 * len(settings.methods) * sizes.tasks("test"), unknown=sizes.unknown)


@work("localisation")
def _localisation(sizes: Sizes, keys: Keys) -> Work:
    """Count two kernels over all tasks' images, at pre-trained and at random weights."""
    settings: Any = sizes.params.localisation
    images = sizes.tasks("test", settings.images)
    return Work(
        differentiates=lambda row: 2 * count_gradients(row, images, settings.memory * 2**20), unknown=sizes.unknown
    )
