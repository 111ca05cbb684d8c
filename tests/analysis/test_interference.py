"""τJp and the drop of accuracy from numbers given by hand; the rank correlation against counting."""

import numpy as np
import pytest

from pipeline.analysis.interference import Interference, measure_interference, rank_correlation
from pipeline.config import IntervalSettings
from pipeline.measurements import Recorder


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """By its definition for numbers without ties: 1 − 6 Σ d² / (n (n² − 1))."""
    ranks = [np.array([(v < value).sum() for value in v]) for v in (x, y)]
    n = len(x)
    return 1 - 6 * float(((ranks[0] - ranks[1]) ** 2).sum()) / (n * (n**2 - 1))


def test_rank_correlation(intervals: IntervalSettings) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=40)
    pairs = np.stack([x, x + random.normal(size=40)], axis=1)
    actual = rank_correlation(pairs, intervals)
    assert actual.value == pytest.approx(spearman(*pairs.T))
    estimate = actual.estimate(intervals)
    assert estimate.low < actual.value < estimate.high
    assert estimate.n == 40
    # Fisher's interval for normal numbers, √1.06 wider for ranks, is a rough check of the width.
    half = 1.96 * np.sqrt(1.06 / 37) * (1 - actual.value**2)
    assert (estimate.high - estimate.low) / 2 == pytest.approx(half, rel=0.3)


def test_rank_correlation_of_what_does_not_vary(intervals: IntervalSettings) -> None:
    assert np.isnan(rank_correlation(np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]), intervals).value)


def test_measurements(intervals: IntervalSettings) -> None:
    """Two task vectors on the images of two tasks and of a control."""
    right, wrong = True, False
    interferences = {
        "a": Interference(
            np.array([[9.0, 7], [1, 2]]), np.array([right, wrong]), np.array([[right, right], [wrong, wrong]])
        ),
        "b": Interference(
            np.array([[3.0, 4, 5], [6, 6, 6]]), np.full(3, right), np.array([[right, right, wrong], [right] * 3])
        ),
        "control": Interference(np.array([[1.0], [2]]), np.array([right]), np.array([[wrong], [right]])),
    }
    measured = measure_interference(Recorder("m", 0, paradigm="p"), ["a", "b"], interferences, intervals)
    rows = {(f"{r.task}+{r.other}" if r.scope == "pair" else r.scope, r.metric): r for r in measured}
    tau_jp = {"a+a": 8, "b+a": 1.5, "a+b": 4, "b+b": 6, "a+control": 1, "b+control": 2}
    drop = {"a+a": -0.5, "b+a": 0.5, "a+b": 1 / 3, "b+b": 0, "a+control": 1, "b+control": 0}
    for task in tau_jp:
        assert rows[task, "tau_jp"].value == pytest.approx(tau_jp[task])
        assert rows[task, "drop"].value == pytest.approx(drop[task])
    # Over the ordered pairs a+b and b+a, in which the smaller τJp loses more.
    assert rows["mean", "tau_jp"].value == pytest.approx((1.5 + 4) / 2)
    assert rows["mean", "drop"].value == pytest.approx((0.5 + 1 / 3) / 2)
    assert rows["mean", "rank_correlation"].value == pytest.approx(-1)
    assert rows["a+b", "tau_jp"].n == 3
