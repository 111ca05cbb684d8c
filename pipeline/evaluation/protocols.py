"""The reported numbers: single-task accuracy, addition and negation on ``test``, α chosen on ``val``."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool

from pipeline.config import IntervalSettings
from pipeline.editing.spaces import EditSpace
from pipeline.evaluation.intervals import bootstrap_accuracy, bootstrap_normalised, measure_tasks
from pipeline.evaluation.prediction import Benchmark, predict
from pipeline.measurements import Measurement, Recorder, Setting

# Correctness per image, by task; tasks have different numbers of images.
CorrectByTask = dict[str, Bool[np.ndarray, " _"]]

# A task whose zero-shot accuracy exceeds chance by less than this has almost nothing to forget.
NEAR_CHANCE = 0.10


def evaluate_single_task(space: EditSpace, benchmarks: Sequence[Benchmark]) -> tuple[CorrectByTask, CorrectByTask]:
    """Return zero-shot and single-task correctness.

    Benchmarks beyond the space's vectors, such as the control task's, are only evaluated zero-shot.
    """
    zero_shot, single = {}, {}
    for position, benchmark in enumerate(benchmarks):
        tuned = position < space.size
        coefficients = torch.zeros(2 if tuned else 1, space.size)
        if tuned:
            coefficients[1, position] = 1.0
        predictions = predict(space, coefficients, [benchmark], f"single-task {benchmark.task}")
        correct = predictions[benchmark.task].correct()
        zero_shot[benchmark.task] = correct[0]
        if tuned:
            single[benchmark.task] = correct[1]
    return zero_shot, single


def evaluate_addition(
    space: EditSpace, alphas: Mapping[Setting, Sequence[float]], benchmarks: Sequence[Benchmark]
) -> dict[Setting, CorrectByTask]:
    """Return the correctness of the sum of the space's vectors, for each of several choices of one α per vector."""
    coefficients = torch.tensor(list(alphas.values()))
    predictions = predict(space, coefficients, benchmarks, "addition")
    return {
        setting: {b.task: predictions[b.task].correct()[row] for b in benchmarks} for row, setting in enumerate(alphas)
    }


def evaluate_negation(
    space: EditSpace, alphas: Mapping[Setting, float], position: int, benchmark: Benchmark, control: Benchmark
) -> dict[Setting, tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " m"]]]:
    """Return the correctness of one negated task vector on its own task and on the control task, at several α.

    ``position`` is the position of the task's vector in the space.
    """
    coefficients = torch.zeros(len(alphas), space.size)
    coefficients[:, position] = -torch.tensor(list(alphas.values()))
    predictions = predict(space, coefficients, [benchmark, control], f"negation of {benchmark.task}")
    target, kept = predictions[benchmark.task].correct(), predictions[control.task].correct()
    return {setting: (target[row], kept[row]) for row, setting in enumerate(alphas)}


def measure_accuracy(
    recorder: Recorder,
    benchmark: str,
    setting: Setting,
    correct: CorrectByTask,
    settings: IntervalSettings,
) -> list[Measurement]:
    """Measure accuracy per task, and its mean over tasks."""
    tasks = {task: bootstrap_accuracy(c, settings, stream) for stream, (task, c) in enumerate(correct.items())}
    return measure_tasks(recorder, benchmark, setting, "accuracy", tasks, settings)


def measure_normalised(
    recorder: Recorder,
    benchmark: str,
    setting: Setting,
    correct: CorrectByTask,
    single: CorrectByTask,
    settings: IntervalSettings,
) -> list[Measurement]:
    """Measure accuracy over that of the single-task model per task, and its mean over tasks (a mean of ratios).

    Raises:
        UserError: a single-task model classifies nothing correctly.
    """
    tasks = {
        task: bootstrap_normalised(c, single[task], settings, stream, task)
        for stream, (task, c) in enumerate(correct.items())
    }
    return measure_tasks(recorder, benchmark, setting, "normalized", tasks, settings)


def measure_negation(
    recorder: Recorder,
    setting: Setting,
    target: CorrectByTask,
    control: CorrectByTask,
    settings: IntervalSettings,
) -> list[Measurement]:
    """Measure target and control accuracy per negated task, and their means.

    All control accuracies are on the same images, so their mean is resampled as one score per image.
    """
    targets = {task: bootstrap_accuracy(c, settings, stream) for stream, (task, c) in enumerate(target.items())}
    stream = len(targets)
    controls = {task: bootstrap_accuracy(c, settings, stream) for task, c in control.items()}
    mean_control = bootstrap_accuracy(np.mean(list(control.values()), axis=0), settings, stream)
    return [
        *measure_tasks(recorder, "negation", setting, "target", targets, settings),
        *measure_tasks(recorder, "negation", setting, "control", controls, settings, mean_control),
    ]


def is_near_chance(zero_shot: Bool[np.ndarray, " n"], classes: int) -> bool:
    """Return whether zero-shot accuracy is so close to chance that negation is not informative."""
    return float(zero_shot.mean()) - 1 / classes < NEAR_CHANCE
