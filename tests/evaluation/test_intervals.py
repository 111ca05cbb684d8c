"""Bootstrap intervals against resampling the images one by one."""

import numpy as np
import pytest

from pipeline.config import IntervalSettings
from pipeline.errors import UserError
from pipeline.evaluation.intervals import Bootstrap, bootstrap_accuracy, bootstrap_mean, bootstrap_normalised

MANY = IntervalSettings(confidence=0.9, resamples=40_000, seed=0)
QUANTILES = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]


def bools(text: str) -> np.ndarray:
    return np.array([character == "1" for character in text])


def resampled_images(n: int) -> np.ndarray:
    """Indices of images drawn with replacement, the literal bootstrap: ``[resamples, n]``."""
    return np.random.default_rng(99).integers(0, n, (MANY.resamples, n))


def assert_same_distribution(resampled: np.ndarray, literal: np.ndarray, step: float) -> None:
    """``step`` is the distance of neighbouring values, by which a quantile of this many draws may differ."""
    assert resampled.shape == literal.shape
    np.testing.assert_allclose(resampled.mean(), literal.mean(), atol=6 * literal.std() / np.sqrt(len(literal)))
    np.testing.assert_allclose(resampled.std(), literal.std(), rtol=0.03)
    np.testing.assert_allclose(np.quantile(resampled, QUANTILES), np.quantile(literal, QUANTILES), atol=1.01 * step)


@pytest.mark.parametrize("correct", ["1110", "1" * 30 + "0" * 10, "1" * 2 + "0" * 58])
def test_accuracy_equals_the_literal_bootstrap(correct: str) -> None:
    scores = bools(correct)
    literal = scores[resampled_images(len(scores))].mean(axis=1)
    bootstrap = bootstrap_accuracy(scores, MANY, stream=0)
    assert bootstrap.value == scores.mean()
    assert bootstrap.n == len(scores)
    assert_same_distribution(bootstrap.resampled, literal, 1 / len(scores))


def test_fractional_scores_equal_the_literal_bootstrap() -> None:
    """Several edits' correctness on the same images, averaged per image."""
    scores = np.array([0, 1 / 3, 1 / 3, 2 / 3, 1, 1, 1, 1, 0, 2 / 3] * 3)
    literal = scores[resampled_images(len(scores))].mean(axis=1)
    bootstrap = bootstrap_accuracy(scores, MANY, stream=0)
    assert bootstrap.value == pytest.approx(scores.mean())
    assert_same_distribution(bootstrap.resampled, literal, 1 / 90)


def test_normalised_accuracy_equals_the_literal_paired_bootstrap() -> None:
    edited, single = bools("1" * 25 + "0" * 15), bools("1" * 24 + "0" + "1" * 8 + "0" * 7)
    images = resampled_images(len(edited))
    literal = edited[images].sum(axis=1) / single[images].sum(axis=1)
    bootstrap = bootstrap_normalised(edited, single, MANY, 0, "digits")
    assert bootstrap.value == pytest.approx(25 / 32)
    assert bootstrap.n == 40
    np.testing.assert_allclose(bootstrap.resampled.mean(), literal.mean(), rtol=0.01)
    np.testing.assert_allclose(bootstrap.resampled.std(), literal.std(), rtol=0.03)
    np.testing.assert_allclose(
        np.quantile(bootstrap.resampled, QUANTILES), np.quantile(literal, QUANTILES), atol=1.5 / 32
    )
    unpaired = edited[images].sum(axis=1) / single[images[::-1]].sum(axis=1)
    assert abs(unpaired.std() / literal.std() - 1) > 0.06  # the comparison above would notice


def test_identical_models_have_no_uncertainty_of_their_ratio() -> None:
    correct = bools("1101010111")
    estimate = bootstrap_normalised(correct, correct, MANY, 0, "digits").estimate(MANY)
    assert (estimate.value, estimate.low, estimate.high) == (1, 1, 1)


def test_useless_single_task_model() -> None:
    with pytest.raises(UserError, match=r"^task digits: its single-task model classifies none of 4 images correctly"):
        bootstrap_normalised(bools("1100"), bools("0000"), MANY, 0, "digits")


def test_mean_over_tasks_resamples_each_task_alone() -> None:
    first, second = bools("1" * 15 + "0" * 5), bools("1" * 10 + "0" * 30)
    draws = np.random.default_rng(5)
    literal = [
        (first[draws.integers(0, 20, 20)].mean() + second[draws.integers(0, 40, 40)].mean()) / 2
        for _ in range(MANY.resamples)
    ]
    bootstrap = bootstrap_mean([bootstrap_accuracy(task, MANY, stream) for stream, task in enumerate((first, second))])
    assert bootstrap.value == pytest.approx((0.75 + 0.25) / 2)
    assert bootstrap.n == 60
    assert_same_distribution(bootstrap.resampled, np.array(literal), 1 / 80)


def test_streams_are_independent_and_fixed_by_the_seed() -> None:
    correct = bools("1" * 300 + "0" * 200)
    first, second, again = (bootstrap_accuracy(correct, MANY, stream).resampled for stream in (0, 1, 0))
    np.testing.assert_array_equal(first, again)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    other_seed = bootstrap_accuracy(correct, MANY.model_copy(update={"seed": 1}), 0).resampled
    assert (first != other_seed).any()


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
def test_interval_leaves_equal_tails(confidence: float) -> None:
    resampled = np.random.default_rng(0).permutation(np.linspace(0, 1, 10_001))
    settings = MANY.model_copy(update={"confidence": confidence})
    estimate = Bootstrap(0.5, resampled, 10).estimate(settings)
    assert estimate.low == pytest.approx((1 - confidence) / 2, abs=1e-4)
    assert estimate.high == pytest.approx((1 + confidence) / 2, abs=1e-4)
    assert (estimate.value, estimate.n) == (0.5, 10)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_coverage(confidence: float) -> None:
    """The share of intervals, over new test sets, that contain the true accuracy is the confidence level."""
    settings = IntervalSettings(confidence=confidence, resamples=500, seed=0)
    random, truth, trials = np.random.default_rng(1), 0.7, 600
    covered = 0
    for stream in range(trials):
        estimate = bootstrap_accuracy(random.random(200) < truth, settings, stream).estimate(settings)
        covered += estimate.low <= truth <= estimate.high
    assert covered / trials == pytest.approx(confidence, abs=0.05)


def test_resamples_without_a_correct_reference_image_do_not_count(intervals: IntervalSettings) -> None:
    """With 3 images, one right in the reference and all in the edit, the ratio is 3, 3/2 or 1, never 0."""
    reference = np.array([True, False, False])
    estimate = bootstrap_normalised(np.ones(3, bool), reference, intervals, 0, "digits").estimate(intervals)
    assert (estimate.low, estimate.value, estimate.high) == (1, 3, 3)
