"""Bootstrap intervals over test images, for accuracies, normalised accuracies and their means over tasks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from pipeline.config import IntervalSettings
from pipeline.errors import UserError
from pipeline.measurements import Estimate


@dataclass(frozen=True)
class Bootstrap:
    """A statistic of one task and its values on resampled images.

    resampled: ``[resamples]``, NaN where a resample leaves the statistic undefined.
    """

    value: float
    resampled: Float[np.ndarray, " resamples"]
    n: int

    def estimate(self, settings: IntervalSettings) -> Estimate:
        """The value with its percentile interval."""
        tail = (1 - settings.confidence) / 2
        low, high = np.nanquantile(self.resampled, [tail, 1 - tail])
        return Estimate(self.value, float(low), float(high), self.n)

    def scaled(self, factor: float) -> "Bootstrap":
        """The statistic times a number."""
        return Bootstrap(self.value * factor, self.resampled * factor, self.n)


def bootstrap_accuracy(
    scores: Bool[np.ndarray, " n"] | Float[np.ndarray, " n"], settings: IntervalSettings, stream: int
) -> Bootstrap:
    """Accuracy on one task, or the mean of whatever else is one score per image.

    Resampling n images with replacement and counting each distinct score is one multinomial draw.
    ``stream`` numbers the task, so that tasks are resampled independently.
    """
    n = len(scores)
    values, counts = np.unique(scores, return_counts=True)
    draws = np.random.default_rng([settings.seed, stream]).multinomial(n, counts / n, settings.resamples)
    return Bootstrap(float(scores.mean()), draws @ values / n, n)


def bootstrap_normalised(
    correct: Bool[np.ndarray, " n"],
    reference: Bool[np.ndarray, " n"],
    settings: IntervalSettings,
    stream: int,
    task: str,
) -> Bootstrap:
    """acc(edited) / acc(single-task model), both on the same resampled images.

    Resampling images and counting their four joint outcomes is one multinomial draw.

    Raises:
        UserError: the reference classifies nothing correctly, so that the ratio has no value.
    """
    if not reference.any():
        raise UserError(
            f"task {task}: its single-task model classifies none of {len(reference)} images correctly, so normalised "
            "accuracy has no value; train it longer (epochs, finetune.lr) or leave the task out"
        )
    n = len(correct)
    outcomes = np.bincount(2 * correct.astype(int) + reference, minlength=4)
    draws = np.random.default_rng([settings.seed, stream]).multinomial(n, outcomes / n, settings.resamples)
    edited, single = draws[:, 2] + draws[:, 3], draws[:, 1] + draws[:, 3]
    return Bootstrap(float(correct.sum() / reference.sum()), ratio(edited, single), n)


def ratio(edited: Int64[np.ndarray, " resamples"], single: Int64[np.ndarray, " resamples"]) -> np.ndarray:
    """Normalised accuracy from counts of correct images, of the edited and of the single-task model.

    NaN where a resample of few images holds none that the single-task model gets right: it says nothing then.
    """
    return np.divide(edited, single, out=np.full(len(single), np.nan), where=single > 0)


def bootstrap_mean(tasks: Sequence[Bootstrap]) -> Bootstrap:
    """Mean over tasks, each resampled independently."""
    total = bootstrap_sum(tasks)
    return Bootstrap(total.value / len(tasks), total.resampled / len(tasks), total.n)


def bootstrap_sum(parts: Sequence[Bootstrap]) -> Bootstrap:
    """Sum of statistics of different images, each resampled independently."""
    return Bootstrap(
        float(np.sum([part.value for part in parts])),
        np.sum([part.resampled for part in parts], axis=0),
        sum(part.n for part in parts),
    )
