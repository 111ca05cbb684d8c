"""Incremental learning against brute force: every sum evaluated anew, the best α found by looking at all."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from pipeline.analysis.incremental import (
    Arrival,
    evaluate_arrivals,
    incremental_curve,
    measure_arrival,
    summarise_order,
)
from pipeline.config import EvaluationSettings, Grid, IntervalSettings
from pipeline.editing import TaskVector
from pipeline.editing.spaces import TangentSpace, WeightSpace
from pipeline.evaluation.prediction import Benchmark
from pipeline.images import LabelledImages
from pipeline.measurements import Recorder
from pipeline.models.encoders import ImageEncoder
from pipeline.models.heads import Head

CPU = torch.device("cpu")
SETTINGS = EvaluationSettings(batch_size=8, directions=2, edits=1)
TASKS = ["a", "b", "c"]
ORDER = ["c", "a", "b"]
GRID = Grid(min=0.0, max=1.0, points=3)


@pytest.fixture
def vectors(make_vector: Callable[..., TaskVector]) -> list[TaskVector]:
    return [make_vector(seed, scale=0.3) for seed in range(3)]


@pytest.fixture
def splits(make_images: Callable[..., LabelledImages], make_head: Callable[..., Head]) -> list[dict[str, Benchmark]]:
    """Return val and test benchmarks with 20 random images of four classes per task."""
    return [
        {
            task: Benchmark.of_images(task, make_images(20, 4, 10 * split + i), make_head(4, i))
            for i, task in enumerate(TASKS)
        }
        for split in range(2)
    ]


def accuracy(
    encoder: ImageEncoder, vectors: list[TaskVector], alpha: float, seen: list[str], benchmark: Benchmark
) -> np.ndarray:
    """Return the correctness per image of a copy of the model to which α τ of each task was added."""
    named = dict(encoder.visual.named_parameters())
    with torch.no_grad():
        for task in seen:
            for name, tensor in vectors[TASKS.index(task)].tensors.items():
                named[name].add_(alpha * tensor)
        embedded = torch.nn.functional.normalize(encoder.eval()(torch.from_numpy(benchmark.inputs)), dim=1)
        predicted = (embedded @ benchmark.head.weight.T).argmax(dim=1).numpy()
    return predicted == benchmark.labels


def test_every_arrival_is_the_best_sum_of_the_tasks_so_far(
    make_encoder: Callable[[], ImageEncoder], vectors: list[TaskVector], splits: list[dict[str, Benchmark]]
) -> None:
    val, test = splits
    space = WeightSpace(make_encoder(), vectors, CPU, SETTINGS)
    single = {t: float(accuracy(make_encoder(), vectors, 1.0, [t], val[t]).mean()) for t in TASKS}
    arrivals = list(evaluate_arrivals(space, ORDER, val, test, GRID, single))
    assert [arrival.tasks for arrival in arrivals] == [["c"], ["c", "a"], ["c", "a", "b"]]
    for arrival in arrivals:
        seen = arrival.tasks
        normalised = {
            alpha: np.mean([accuracy(make_encoder(), vectors, alpha, seen, val[t]).mean() / single[t] for t in seen])
            for alpha in (0.0, 0.5, 1.0)
        }
        assert arrival.alpha == min(normalised, key=lambda alpha: (-normalised[alpha], alpha))
        assert list(arrival.correct) == ["tuned", "alpha_1"]
        for of_setting, alpha in zip(arrival.correct.values(), (arrival.alpha, 1.0), strict=True):
            assert list(of_setting) == seen
            for task, correct in of_setting.items():
                expected = accuracy(make_encoder(), vectors, alpha, seen, test[task])
                np.testing.assert_array_equal(correct, expected)


def test_in_tangent_space_only_the_tasks_so_far_matter(
    make_encoder: Callable[[], ImageEncoder], vectors: list[TaskVector], splits: list[dict[str, Benchmark]]
) -> None:
    """After the first arrival, the other vectors may be anything."""
    val, test = splits
    others = [vectors[0] * 5.0, vectors[1] * -3.0, vectors[2]]
    first, second = (
        next(
            evaluate_arrivals(
                TangentSpace(make_encoder(), some, CPU, SETTINGS), ORDER, val, test, GRID, dict.fromkeys(TASKS, 0.5)
            )
        )
        for some in (vectors, others)
    )
    assert first.alpha == second.alpha
    np.testing.assert_array_equal(first.correct["alpha_1"]["c"], second.correct["alpha_1"]["c"])


def test_measurements(intervals: IntervalSettings) -> None:
    right = np.array([True, True, True, False])
    single = {"a": np.array([True, True, False, False]), "b": right}
    arrivals = [
        Arrival(["b"], 0.25, {"tuned": {"b": right}, "alpha_1": {"b": ~right}}),
        Arrival(["b", "a"], 0.5, {"tuned": {"b": ~right, "a": right}, "alpha_1": {"b": right, "a": right}}),
    ]
    recorder = Recorder("m", 0, paradigm="p")
    measured = [measure_arrival(recorder, arrival, single, intervals) for arrival in arrivals]
    of_last = {(r.setting, r.task, r.metric): r.value for r in measured[1]}
    assert of_last["tuned", "b", "accuracy"] == 0.25
    assert of_last["tuned", "a", "normalized"] == pytest.approx(1.5)

    curve = incremental_curve(arrivals, measured)
    actual = curve.set_index(["arrivals", "setting", "metric"])
    assert actual.loc[(1, "tuned", "accuracy"), ["value", "alpha", "task"]].tolist() == [0.75, 0.25, "b"]
    assert actual.loc[(1, "alpha_1", "accuracy"), ["value", "alpha"]].tolist() == [0.25, 1.0]
    assert actual.loc[(2, "tuned", "normalized"), "value"] == pytest.approx((1 / 3 + 1.5) / 2)
    low, value, high = (curve[column].to_numpy() for column in ("ci_low", "value", "ci_high"))
    assert ((low <= value) & (value <= high)).all()

    rows = {(r.setting, r.metric): r for r in summarise_order(recorder, "order_0", curve, measured[1])}
    assert {(r.scope, r.order, r.task) for r in rows.values()} == {("order", "order_0", "")}
    assert rows["tuned", "accuracy"].value == pytest.approx((0.25 + 0.75) / 2)
    assert rows["tuned", "accuracy"].n == 8
    assert rows["tuned", "accuracy_over_arrivals"].value == pytest.approx((0.75 + 0.5) / 2)
    assert rows["alpha_1", "normalized_over_arrivals"].value == pytest.approx((1 / 3 + (1 + 1.5) / 2) / 2)
    assert len(rows) == 8
