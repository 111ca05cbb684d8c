"""Estimate the cost of a reproduction: steps, disk, memory and time per kind of stage."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from artifacts.instances import Instance, read_instances
from pipeline.config import Parameters
from tauflow.planning.calibration import Calibration, ModelCost, StepCost
from tauflow.planning.measured import Measured
from tauflow.planning.work import Work, works


@dataclass(frozen=True)
class StageCost:
    """Cost of all stale instances of a stage or, for training stages, of those of a model and recipe.

    group: the stage, with its model and recipe where they matter.
    unknown: tasks whose size is not known yet; their cost is not included.
    measured: the number of instances whose time is that of earlier runs.
    """

    group: str
    instances: int
    epochs: float
    steps: int
    written_bytes: int
    peak_bytes: int | None
    seconds: float
    unknown: tuple[str, ...]
    measured: int = 0


def estimate(
    params: Parameters,
    stale: Sequence[str],
    device: torch.device,
    times: Mapping[str, Measured] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[StageCost]:
    """Return the cost of the given stage instances, by group; stages of negligible cost are omitted.

    Args:
        params: the parameters.
        stale: names of stage instances.
        device: device on which steps and images are timed.
        times: what instances took in earlier runs; only the others are timed.
        say: called with what is being timed.

    Raises:
        UserError: a model, task or recipe is unknown or wrong.
    """
    times = times or {}
    wanted = set(stale)
    instances = {name: instance for name, instance in read_instances(params).items() if name in wanted}
    work = works(params, instances.values())
    timed = [name for name in work if name not in times]
    models: dict[str, ModelCost] = {}
    steps: dict[tuple[str, str], StepCost] = {}
    for model in dict.fromkeys(model for name in timed if (model := instances[name].keys.get("model"))):
        say(f"timing {model} on a few images")
        calibration = Calibration(params, model, device)
        models[model] = calibration.of_model()
        recipes = [instances[name].keys.get("recipe") for name in timed if instances[name].keys.get("model") == model]
        trained = [recipe for recipe in dict.fromkeys(recipes) if recipe in params.derived.recipe]
        for number, recipe in enumerate(trained, 1):
            if any(work[name].steps for name in timed if instances[name].keys.get("recipe") == recipe):
                say(f"timing {model}, a few steps of {recipe} ({number} of {len(trained)} recipes)")
                steps[model, recipe] = calibration.of_step(params.derived.recipe[recipe])
    groups: dict[str, dict[str, Work]] = {}
    for name, instance in instances.items():
        if name in work or name in times:
            groups.setdefault(_group(instance), {})[name] = work.get(name, Work())
    return [_sum(group, members, instances, models, steps, times) for group, members in groups.items()]


def _group(instance: Instance) -> str:
    """Return the row that an instance counts in: its kind, model and, where something is trained, its recipe."""
    parts = [
        instance.stage,
        instance.keys.get("model"),
        instance.keys.get("recipe") if "task" in instance.keys else None,
    ]
    return " ".join(part for part in parts if part)


def _sum(
    group: str,
    members: Mapping[str, Work],
    instances: Mapping[str, Instance],
    models: Mapping[str, ModelCost],
    steps: Mapping[tuple[str, str], StepCost],
    times: Mapping[str, Measured],
) -> StageCost:
    seconds, written, peak = 0.0, 0, None
    for name, work in members.items():
        keys = instances[name].keys
        model = models.get(keys.get("model", ""))
        step = steps.get((keys.get("model", ""), keys.get("recipe", "")))
        written += work.writes(model, step)
        if step and work.steps:
            peak = step.peak_bytes
        seconds += times[name].seconds if name in times else _seconds(work, model, step)
    measured = members.keys() & times.keys()
    return StageCost(
        group,
        len(members),
        sum(work.epochs for work in members.values()),
        sum(work.steps for work in members.values()),
        written,
        peak,
        seconds,
        tuple(dict.fromkeys(task for name in members.keys() - measured for task in members[name].unknown)),
        len(measured),
    )


def _seconds(work: Work, model: ModelCost | None, step: StepCost | None) -> float:
    seconds = 0.0
    if model:
        seconds += work.embeds * model.embed + work.propagates * model.propagate + work.encodes * model.encode
        seconds += work.differentiates(model.encoder_bytes) * model.differentiate
    if step and work.steps:
        seconds += work.steps * step.seconds
    return seconds
