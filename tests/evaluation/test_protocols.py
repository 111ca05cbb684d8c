"""The reported numbers: the edits that each benchmark evaluates, and the rows of the results."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from pipeline.config import EvaluationSettings, IntervalSettings
from pipeline.editing import TaskVector, sum_vectors
from pipeline.editing.spaces import WeightSpace
from pipeline.errors import UserError
from pipeline.evaluation.prediction import Benchmark
from pipeline.evaluation.protocols import (
    evaluate_addition,
    evaluate_negation,
    evaluate_single_task,
    is_near_chance,
    measure_accuracy,
    measure_negation,
    measure_normalised,
)
from pipeline.images import LabelledImages
from pipeline.measurements import MEAN, Measurement, Recorder, Setting
from pipeline.models.encoders import ImageEncoder
from pipeline.models.heads import Head

RECORDER = Recorder("tiny", 3, paradigm="standard")
TASKS = ("a", "b", "c")
ALPHAS: dict[Setting, float] = {"tuned": 0.35, "alpha_1": 1.0}


@pytest.fixture(scope="module")
def vectors(make_vector: Callable[..., TaskVector]) -> list[TaskVector]:
    return [make_vector(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def benchmarks(make_images: Callable[..., LabelledImages], make_head: Callable[..., Head]) -> list[Benchmark]:
    """Three tasks and a control."""
    return [
        Benchmark.of_images(task, make_images(16 + seed, classes=3, seed=seed), make_head(3, seed=seed))
        for seed, task in enumerate((*TASKS, "control"))
    ]


@pytest.fixture(scope="module")
def space(
    make_encoder: Callable[[], ImageEncoder], vectors: list[TaskVector], evaluation: EvaluationSettings
) -> WeightSpace:
    return WeightSpace(make_encoder(), vectors, torch.device("cpu"), evaluation)


@pytest.fixture(scope="module")
def correct_with(make_encoder: Callable[[], ImageEncoder]) -> Callable[[TaskVector | None, Benchmark], list[bool]]:
    """Return the correctness per image of a fresh model moved by a vector."""

    def correct(vector: TaskVector | None, benchmark: Benchmark) -> list[bool]:
        encoder = make_encoder()
        if vector is not None:
            encoder.visual.load_state_dict(vector.apply(dict(encoder.visual.state_dict())))
        with torch.no_grad():
            classes = (encoder(torch.from_numpy(benchmark.inputs)) @ benchmark.head.weight.T).argmax(dim=1)
        return (classes.numpy() == benchmark.labels).tolist()

    return correct


Correct = Callable[[TaskVector | None, Benchmark], list[bool]]


def test_single_task_and_zero_shot(
    space: WeightSpace, vectors: list[TaskVector], benchmarks: list[Benchmark], correct_with: Correct
) -> None:
    zero_shot, single = evaluate_single_task(space, benchmarks)
    assert list(zero_shot) == [*TASKS, "control"]
    assert list(single) == list(TASKS)
    for position, benchmark in enumerate(benchmarks):
        assert zero_shot[benchmark.task].tolist() == correct_with(None, benchmark)
        if position < 3:
            assert single[benchmark.task].tolist() == correct_with(vectors[position], benchmark)
    assert any((zero_shot[task] != single[task]).any() for task in TASKS)


def test_addition(
    space: WeightSpace, vectors: list[TaskVector], benchmarks: list[Benchmark], correct_with: Correct
) -> None:
    alphas: dict[Setting, list[float]] = {setting: [alpha] * 3 for setting, alpha in ALPHAS.items()}
    measured = evaluate_addition(space, {**alphas, "per_task": [0.4, 0.0, 0.9]}, benchmarks[:3])
    assert list(measured) == ["tuned", "alpha_1", "per_task"]
    sums: dict[Setting, TaskVector] = {setting: sum_vectors(vectors) * alpha for setting, alpha in ALPHAS.items()}
    sums["per_task"] = vectors[0] * 0.4 + vectors[2] * 0.9
    for setting, total in sums.items():
        for benchmark in benchmarks[:3]:
            assert measured[setting][benchmark.task].tolist() == correct_with(total, benchmark)


def test_negation(
    space: WeightSpace, vectors: list[TaskVector], benchmarks: list[Benchmark], correct_with: Correct
) -> None:
    measured = evaluate_negation(space, ALPHAS, 1, benchmarks[1], benchmarks[3])
    for setting, alpha in ALPHAS.items():
        target, control = measured[setting]
        assert target.tolist() == correct_with(vectors[1] * -alpha, benchmarks[1])
        assert control.tolist() == correct_with(vectors[1] * -alpha, benchmarks[3])


def bools(text: str) -> np.ndarray:
    return np.array([character == "1" for character in text])


def keys(rows: Sequence[Measurement]) -> list[tuple[str, str, str, str]]:
    return [(row.benchmark, row.setting, row.task or row.scope, row.metric) for row in rows]


def assert_sound(rows: Sequence[Measurement]) -> None:
    for row in rows:
        assert (row.model, row.paradigm, row.seed) == ("tiny", "standard", 3)
        assert row.ci_low is not None
        assert row.ci_high is not None
        assert row.ci_low <= row.value <= row.ci_high


def test_accuracy_rows(intervals: IntervalSettings) -> None:
    correct = {"a": bools("1110" * 10), "b": bools("1000" * 5)}
    rows = measure_accuracy(RECORDER, "single_task", "none", correct, intervals)
    assert keys(rows) == [("single_task", "none", task, "accuracy") for task in ("a", "b", MEAN)]
    assert [row.value for row in rows] == [0.75, 0.25, 0.5]
    assert [row.n for row in rows] == [40, 20, 60]
    assert_sound(rows)


def test_normalised_rows_have_a_mean_of_ratios(intervals: IntervalSettings) -> None:
    correct = {"a": bools("1110" * 10), "b": bools("1000" * 5)}
    single = {"b": bools("1100" * 5), "a": bools("1111" * 10)}
    rows = measure_normalised(RECORDER, "addition", "tuned", correct, single, intervals)
    assert keys(rows) == [("addition", "tuned", task, "normalized") for task in ("a", "b", MEAN)]
    assert [row.value for row in rows] == pytest.approx([0.75, 0.5, 0.625])
    assert_sound(rows)


def test_normalising_by_a_useless_model_names_the_task(intervals: IntervalSettings) -> None:
    correct, single = {"a": bools("1"), "b": bools("1")}, {"a": bools("1"), "b": bools("0")}
    with pytest.raises(UserError, match=r"^task b: "):
        measure_normalised(RECORDER, "addition", "tuned", correct, single, intervals)


def test_negation_rows(intervals: IntervalSettings) -> None:
    target = {"a": bools("1000" * 10), "b": bools("1100" * 5)}
    control = {"a": bools("1110" * 8), "b": bools("1010" * 8)}
    rows = measure_negation(RECORDER, "tuned", target, control, intervals)
    assert keys(rows) == [
        ("negation", "tuned", task, metric) for metric in ("target", "control") for task in ("a", "b", MEAN)
    ]
    assert [row.value for row in rows] == pytest.approx([0.25, 0.5, 0.375, 0.75, 0.5, 0.625])
    assert [row.n for row in rows] == [40, 20, 60, 32, 32, 32]
    assert_sound(rows)


def test_equal_control_results_give_no_narrower_mean(intervals: IntervalSettings) -> None:
    """Three edits that agree on every control image are one measurement, not three."""
    control = {str(task): bools("1110" * 25) for task in TASKS}
    rows = measure_negation(RECORDER, "tuned", control, control, intervals)
    controls = {row.task or row.scope: row for row in rows if row.metric == "control"}
    assert (controls[MEAN].ci_low, controls[MEAN].ci_high) == (controls["a"].ci_low, controls["a"].ci_high)
    targets = {row.task or row.scope: row for row in rows if row.metric == "target"}
    assert width(targets[MEAN]) < 0.7 * width(targets["a"])  # which are images of three tasks


def test_opposite_control_results_cancel(intervals: IntervalSettings) -> None:
    """If one edit is right wherever the other is wrong, their mean is the same on every resample."""
    control = {"a": bools("1110" * 25), "b": ~bools("1110" * 25)}
    rows = measure_negation(RECORDER, "tuned", control, control, intervals)
    mean = next(row for row in rows if row.metric == "control" and row.scope == MEAN)
    assert (mean.ci_low, mean.value, mean.ci_high) == pytest.approx((0.5, 0.5, 0.5))


def width(row: Measurement) -> float:
    assert row.ci_low is not None
    assert row.ci_high is not None
    return row.ci_high - row.ci_low


@pytest.mark.parametrize(
    ("right", "classes", "near"), [(20, 10, False), (19, 10, True), (5, 10, True), (61, 2, False), (59, 2, True)]
)
def test_near_chance(right: int, classes: int, near: bool) -> None:
    assert is_near_chance(np.arange(100) < right, classes) is near
