"""Incremental learning: tasks arrive one by one, and after each arrival the model is the sum of the vectors so far.

α is chosen again on ``val`` of the tasks that have arrived, or is 1. Accuracy is measured on ``test`` of these tasks;
zero-shot transfer to tasks that have not arrived yet is not measured.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from pipeline.config import Grid, IntervalSettings
from pipeline.editing.spaces import EditSpace, Subset
from pipeline.evaluation.prediction import Benchmark
from pipeline.evaluation.protocols import CorrectByTask, evaluate_addition, measure_accuracy, measure_normalised
from pipeline.evaluation.search import search_addition
from pipeline.measurements import MEAN, Measurement, Recorder, Setting, Subject, select


@dataclass(frozen=True)
class Arrival:
    """The results of the sum of the task vectors so far on the tasks so far.

    tasks: those that have arrived, in order of arrival.
    alpha: chosen on their ``val`` splits.
    correct: on their ``test`` splits, at the chosen α and at α = 1.
    """

    tasks: list[str]
    alpha: float
    correct: Mapping[Setting, CorrectByTask]


def evaluate_arrivals(
    space: EditSpace,
    order: Sequence[str],
    val: Mapping[str, Benchmark],
    test: Mapping[str, Benchmark],
    grid: Grid,
    single: Mapping[str, float],
) -> Iterator[Arrival]:
    """Yield the results of the model after each arrival.

    Args:
        space: the edit space, with one task vector per task.
        order: the order in which tasks arrive.
        val, test: the splits of every task, in the order of the space's vectors.
        grid: the α to try.
        single: accuracies of the single-task models on ``val``, the denominators of normalised accuracy.

    Raises:
        UserError: a single-task model classifies nothing correctly, so that accuracy cannot be normalised.
    """
    positions = {task: position for position, task in enumerate(val)}
    for count in range(1, len(order) + 1):
        arrived = list(order[:count])
        so_far = Subset(space, [positions[task] for task in arrived])
        normaliser: Float[np.ndarray, " tasks"] = np.array([single[task] for task in arrived])
        alpha = search_addition(so_far, [val[task] for task in arrived], grid, normaliser).alpha
        edits: dict[Setting, Sequence[float]] = {"tuned": [alpha] * count, "alpha_1": [1.0] * count}
        correct = evaluate_addition(so_far, edits, [test[task] for task in arrived])
        yield Arrival(arrived, alpha, correct)


def measure_arrival(
    recorder: Recorder, arrival: Arrival, single: CorrectByTask, settings: IntervalSettings
) -> list[Measurement]:
    """Measure absolute and normalised accuracy of both settings, per task and mean.

    Args:
        recorder: of the model and the paradigm.
        arrival: the results after the arrival.
        single: correctness of the single-task models on ``test``.
        settings: of the bootstrap over images.

    Raises:
        UserError: a single-task model classifies nothing correctly.
    """
    rows = []
    for setting, correct in arrival.correct.items():
        rows += measure_accuracy(recorder, "incremental", setting, correct, settings)
        rows += measure_normalised(recorder, "incremental", setting, correct, single, settings)
    return rows


def incremental_curve(arrivals: Sequence[Arrival], measured: Sequence[Sequence[Measurement]]) -> pd.DataFrame:
    """Return the means over the tasks that have arrived, one row per arrival, setting and metric.

    Columns: ``arrivals`` (their number), ``task`` (the latest), ``setting``, ``alpha``, ``metric``, ``value``,
    ``ci_low``, ``ci_high``.
    """
    rows = [
        {
            "arrivals": len(arrival.tasks),
            "task": arrival.tasks[-1],
            "setting": row.setting,
            "alpha": arrival.alpha if row.setting == "tuned" else 1.0,
            "metric": row.metric,
            "value": row.value,
            "ci_low": row.ci_low,
            "ci_high": row.ci_high,
        }
        for arrival, measurements in zip(arrivals, measured, strict=True)
        for row in measurements
        if row.scope == MEAN
    ]
    return pd.DataFrame(rows)


def summarise_order(
    recorder: Recorder, order: str, curve: pd.DataFrame, last: Sequence[Measurement]
) -> list[Measurement]:
    """Measure an order: accuracies after the last arrival, with intervals, and means over arrivals.

    The latter have metrics that end in ``_over_arrivals``.
    """
    subject = Subject.of_order(order)
    rows = [replace(row, **asdict(subject)) for row in last if row.scope == MEAN]
    for row in list(rows):
        values = select(curve, setting=row.setting, metric=row.metric)["value"]
        mean = float(values.to_numpy().mean())
        rows.append(recorder.number("incremental", row.setting, subject, f"{row.metric}_over_arrivals", mean))
    return rows
