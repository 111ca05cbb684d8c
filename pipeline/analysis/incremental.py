"""Incremental learning: tasks arrive one by one, and after each the sum of the vectors so far is the model.

Its α is chosen anew on ``val`` of the tasks that have arrived, or is 1. Accuracy is on these tasks' ``test``; what the
model does on tasks that are still to come is zero-shot transfer, and not measured here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from pipeline.config import Grid, IntervalSettings
from pipeline.editing.spaces import EditSpace, Subset
from pipeline.evaluation import Benchmark, search_addition
from pipeline.evaluation.protocols import Correct, evaluate_addition, measure_accuracy, measure_normalised
from pipeline.measurements import MEAN, Measurement, Recorder, Setting, select


@dataclass(frozen=True)
class Arrival:
    """What the sum of the task vectors so far does on the tasks so far.

    tasks: those that have arrived, in their order.
    alpha: chosen on their ``val``.
    correct: on their ``test``, tuned and at α = 1.
    """

    tasks: list[str]
    alpha: float
    correct: Mapping[Setting, Correct]


def evaluate_arrivals(
    space: EditSpace,
    order: Sequence[str],
    val: Mapping[str, Benchmark],
    test: Mapping[str, Benchmark],
    grid: Grid,
    batch_size: int,
) -> Iterator[Arrival]:
    """The model after each arrival.

    Args:
        space: holds one task vector per task.
        order: in which tasks arrive.
        val, test: every task's, in the order of the space's vectors.
        grid: the α to try.
        batch_size: images at once.

    Raises:
        UserError: a single-task model classifies nothing correctly, so that accuracy cannot be normalised.
    """
    positions = {task: position for position, task in enumerate(val)}
    for count in range(1, len(order) + 1):
        seen = list(order[:count])
        so_far = Subset(space, [positions[task] for task in seen])
        alpha = search_addition(so_far, [val[task] for task in seen], grid, batch_size).alpha
        edits: dict[Setting, Sequence[float]] = {"tuned": [alpha] * count, "alpha_1": [1.0] * count}
        correct = evaluate_addition(so_far, edits, [test[task] for task in seen], batch_size)
        yield Arrival(seen, alpha, correct)


def measure_arrival(
    recorder: Recorder, arrival: Arrival, single: Correct, settings: IntervalSettings
) -> list[Measurement]:
    """Absolute and normalised accuracy of both settings, per task and their means.

    Args:
        recorder: names the paradigm.
        arrival: the model after it.
        single: of the single-task models, on ``test``.
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
    """The means over the tasks that have arrived, one row per arrival, setting and metric.

    Columns: ``arrivals`` (how many), ``task`` (the latest), ``setting``, ``alpha``, ``metric``, ``value``, ``ci_low``,
    ``ci_high``.
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
        for arrival, of_arrival in zip(arrivals, measured, strict=True)
        for row in of_arrival
        if row.task == MEAN
    ]
    return pd.DataFrame(rows)


def summarise_order(
    recorder: Recorder, order: str, curve: pd.DataFrame, last: Sequence[Measurement]
) -> list[Measurement]:
    """Rows of ``results.csv``, whose task is the order: the accuracies after the last arrival, with their intervals,
    and their means over arrivals (``…_over_arrivals``).
    """
    rows = [replace(row, task=order) for row in last if row.task == MEAN]
    for row in list(rows):
        values = select(curve, setting=row.setting, metric=row.metric)["value"]
        mean = float(values.to_numpy().mean())
        rows.append(recorder.number("incremental", row.setting, order, f"{row.metric}_over_arrivals", mean))
    return rows
