"""What is reported: single-task accuracy, addition and negation, on ``test``, at coefficients chosen before."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool

from pipeline.config import IntervalSettings
from pipeline.editing.spaces import EditSpace
from pipeline.evaluation.intervals import bootstrap_accuracy, bootstrap_mean, bootstrap_normalised
from pipeline.evaluation.prediction import Benchmark, predict
from pipeline.measurements import MEAN, BenchmarkName, Measurement, Recorder, Setting

# Correctness per image, by task; tasks have different numbers of images.
Correct = dict[str, Bool[np.ndarray, " _"]]

# A task whose zero-shot accuracy is less than this above chance has next to nothing that could be forgotten.
NEAR_CHANCE = 0.10


def evaluate_single_task(space: EditSpace, benchmarks: Sequence[Benchmark], batch_size: int) -> tuple[Correct, Correct]:
    """Zero-shot and single-task correctness; benchmarks beyond the space's vectors (the control) only zero-shot."""
    zero_shot, single = {}, {}
    for position, benchmark in enumerate(benchmarks):
        tuned = position < space.size
        coefficients = torch.zeros(2 if tuned else 1, space.size)
        if tuned:
            coefficients[1, position] = 1.0
        predictions = predict(space, coefficients, [benchmark], batch_size, f"single-task {benchmark.task}")
        correct = predictions[benchmark.task].correct()
        zero_shot[benchmark.task] = correct[0]
        if tuned:
            single[benchmark.task] = correct[1]
    return zero_shot, single


def evaluate_addition(
    space: EditSpace, alphas: Mapping[Setting, Sequence[float]], benchmarks: Sequence[Benchmark], batch_size: int
) -> dict[Setting, Correct]:
    """Correctness of the sum of all task vectors, at each of several choices of one α per task."""
    coefficients = torch.tensor(list(alphas.values()))
    predictions = predict(space, coefficients, benchmarks, batch_size, "addition")
    return {
        setting: {b.task: predictions[b.task].correct()[row] for b in benchmarks} for row, setting in enumerate(alphas)
    }


def evaluate_negation(
    space: EditSpace,
    alphas: Mapping[Setting, float],
    task: int,
    benchmark: Benchmark,
    control: Benchmark,
    batch_size: int,
) -> dict[Setting, tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " m"]]]:
    """Correctness on the task and on the control task of one negated task vector, at each of several α."""
    coefficients = torch.zeros(len(alphas), space.size)
    coefficients[:, task] = -torch.tensor(list(alphas.values()))
    predictions = predict(space, coefficients, [benchmark, control], batch_size, f"negation of {benchmark.task}")
    target, kept = predictions[benchmark.task].correct(), predictions[control.task].correct()
    return {setting: (target[row], kept[row]) for row, setting in enumerate(alphas)}


def measure_accuracy(
    recorder: Recorder,
    benchmark: BenchmarkName,
    setting: Setting,
    correct: Correct,
    settings: IntervalSettings,
) -> list[Measurement]:
    """Accuracy per task, and its mean over tasks."""
    tasks = {task: bootstrap_accuracy(c, settings, stream) for stream, (task, c) in enumerate(correct.items())}
    rows = {**tasks, MEAN: bootstrap_mean(list(tasks.values()))}
    return [
        recorder.estimate(benchmark, setting, task, "accuracy", row.estimate(settings)) for task, row in rows.items()
    ]


def measure_normalised(
    recorder: Recorder,
    benchmark: BenchmarkName,
    setting: Setting,
    correct: Correct,
    single: Correct,
    settings: IntervalSettings,
) -> list[Measurement]:
    """Accuracy over that of the single-task model per task, and its mean over tasks (a mean of ratios).

    Raises:
        UserError: a single-task model classifies nothing correctly.
    """
    tasks = {
        task: bootstrap_normalised(c, single[task], settings, stream, task)
        for stream, (task, c) in enumerate(correct.items())
    }
    rows = {**tasks, MEAN: bootstrap_mean(list(tasks.values()))}
    return [
        recorder.estimate(benchmark, setting, task, "normalized", row.estimate(settings)) for task, row in rows.items()
    ]


def measure_negation(
    recorder: Recorder,
    setting: Setting,
    target: Correct,
    control: Correct,
    settings: IntervalSettings,
) -> list[Measurement]:
    """Target and control accuracy per negated task, and their means.

    All control accuracies are on the same images, so their mean is resampled as one score per image.
    """
    targets = {task: bootstrap_accuracy(c, settings, stream) for stream, (task, c) in enumerate(target.items())}
    control_stream = len(targets)
    controls = {task: bootstrap_accuracy(c, settings, control_stream) for task, c in control.items()}
    mean_control = bootstrap_accuracy(np.mean(list(control.values()), axis=0), settings, control_stream)
    rows = [("target", {**targets, MEAN: bootstrap_mean(list(targets.values()))})]
    rows.append(("control", {**controls, MEAN: mean_control}))
    return [
        recorder.estimate("negation", setting, task, metric, row.estimate(settings))
        for metric, tasks in rows
        for task, row in tasks.items()
    ]


def is_near_chance(zero_shot: Bool[np.ndarray, " n"], classes: int) -> bool:
    """Whether a task starts so near chance that its negation says nothing."""
    return float(zero_shot.mean()) - 1 / classes < NEAR_CHANCE
