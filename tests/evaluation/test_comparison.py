"""Paired differences between paradigms, against resampling images one by one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import IntervalSettings
from pipeline.evaluation.comparison import (
    Outcome,
    bootstrap_difference,
    measure_accuracy,
    measure_advantage,
    measure_difference,
)
from pipeline.measurements import Recorder


def outcome(seed: int, n: int, edited: float, single: float) -> Outcome:
    random = np.random.default_rng(seed)
    return Outcome(random.random(n) < edited, random.random(n) < single)


@pytest.mark.parametrize("normalised", [False, True])
def test_difference_equals_resampling_images(normalised: bool, intervals: IntervalSettings) -> None:
    ours, theirs = outcome(0, 300, 0.7, 0.9), outcome(1, 300, 0.5, 0.8)

    def difference(chosen: np.ndarray) -> float:
        each = [o.edited[chosen].mean() / (o.single[chosen].mean() if normalised else 1.0) for o in (ours, theirs)]
        return float(each[0] - each[1])

    bootstrap = bootstrap_difference(ours, theirs, normalised, intervals, stream=0)
    assert bootstrap.value == pytest.approx(difference(np.arange(300)))
    random = np.random.default_rng(7)
    direct = [difference(random.integers(0, 300, 300)) for _ in range(4000)]
    estimate = bootstrap.estimate(intervals)
    np.testing.assert_allclose([estimate.low, estimate.high], np.quantile(direct, [0.025, 0.975]), atol=0.012)


def test_pairing_makes_the_interval_narrower(intervals: IntervalSettings) -> None:
    """Two models that are right on the same images differ surely, however few images there are."""
    edited = np.arange(50) < 30
    ours = Outcome(edited, np.ones(50, bool))
    theirs = Outcome(np.arange(50) < 29, np.ones(50, bool))
    estimate = bootstrap_difference(ours, theirs, False, intervals, 0).estimate(intervals)
    assert estimate.value == pytest.approx(0.02)
    assert estimate.high - estimate.low < 0.1  # 0.27 if the two were resampled apart


def test_rows_name_the_reference(intervals: IntervalSettings) -> None:
    ours = {"a": outcome(0, 40, 0.7, 0.9), "b": outcome(1, 40, 0.6, 0.9)}
    theirs = {"a": outcome(2, 40, 0.5, 0.9), "b": outcome(3, 40, 0.5, 0.8)}
    rows = measure_difference(
        Recorder("m", 0, paradigm="ntk"), "addition", "tuned", ours, theirs, "standard", intervals
    )
    values = {(row.metric, row.task or row.scope): row.value for row in rows}
    assert set(values) == {(f"{m}_minus_standard", t) for m in ("accuracy", "normalized") for t in ("a", "b", "mean")}
    accuracy = [values["accuracy_minus_standard", task] for task in ("a", "b")]
    assert values["accuracy_minus_standard", "mean"] == pytest.approx(np.mean(accuracy))
    assert accuracy[0] == pytest.approx(ours["a"].edited.mean() - theirs["a"].edited.mean())


def test_single_task_differences_and_the_nonlinear_advantage(intervals: IntervalSettings) -> None:
    """Ortiz-Jimenez et al.: (acc of the reference − ours) / (1 − 1 / classes)."""
    random = np.random.default_rng(0)
    ours = {task: random.random(80) < 0.6 for task in "ab"}
    theirs = {task: random.random(80) < 0.8 for task in "ab"}
    recorder = Recorder("m", 0, paradigm="ntk")
    rows = measure_accuracy(recorder, "single_task", "none", "accuracy", ours, theirs, "standard", intervals)
    rows += measure_advantage(recorder, ours, theirs, {"a": 2, "b": 5}, intervals)
    by_name = {(row.metric, row.task or row.scope): row for row in rows}
    differences = {task: float(ours[task].mean() - theirs[task].mean()) for task in "ab"}
    for task, chance in (("a", 1 / 2), ("b", 1 / 5)):
        assert by_name["accuracy_minus_standard", task].value == pytest.approx(differences[task])
        assert by_name["nonlinear_advantage", task].value == pytest.approx(-differences[task] / (1 - chance))
    assert by_name["accuracy_minus_standard", "mean"].value == pytest.approx((differences["a"] + differences["b"]) / 2)
    # Paired: resampled images by hand.
    draws = [float((ours["a"][i].astype(float) - theirs["a"][i]).mean()) for i in random.integers(80, size=(4000, 80))]
    row = by_name["accuracy_minus_standard", "a"]
    low, high = np.quantile(draws, [0.025, 0.975])
    assert row.ci_low == pytest.approx(low, abs=0.026)
    assert row.ci_high == pytest.approx(high, abs=0.026)


@pytest.mark.parametrize("module", ["comparison", "correctness", "intervals"])
def test_modules_that_read_arrays_import_no_torch(module: str, root: Path) -> None:
    """A stage that compares stored results starts in a second, not in six."""
    code = f"import sys; import pipeline.evaluation.{module}; print({{'torch', 'open_clip'}} & {{*sys.modules}})"
    process = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert process.stdout == "set()\n"


def test_the_stage_that_compares_imports_no_torch(root: Path) -> None:
    code = "import sys; import stages.comparison; print({'torch', 'open_clip'} & {*sys.modules})"
    process = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert process.stdout == "set()\n"
