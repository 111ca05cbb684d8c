"""Bootstrap intervals over test images, for accuracies, normalised accuracies and their means over tasks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from pipeline.config import IntervalSettings
from pipeline.errors import UserError
from pipeline.measurements import Estimate, Measurement, Recorder, Setting, Subject

# Whether each image of a task is classified correctly.
Correct = Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class Bootstrap:
    """A statistic of one task and its values on resampled images.

    resampled: ``[resamples]``, NaN where a resample leaves the statistic undefined.
    """

    value: float
    resampled: Float[np.ndarray, " resamples"]
    n: int

    def estimate(self, settings: IntervalSettings) -> Estimate:
        """Return the value with its percentile interval."""
        tail = (1 - settings.confidence) / 2
        low, high = np.nanquantile(self.resampled, [tail, 1 - tail])
        return Estimate(self.value, float(low), float(high), self.n)

    def scaled(self, factor: float) -> "Bootstrap":
        """Return the statistic times a number."""
        return Bootstrap(self.value * factor, self.resampled * factor, self.n)


def bootstrap_accuracy(scores: Correct | Float[np.ndarray, " n"], settings: IntervalSettings, stream: int) -> Bootstrap:
    """Bootstrap the accuracy on one task, or the mean of any other score per image.

    Resampling n images with replacement and counting each distinct score is one multinomial draw.
    ``stream`` numbers the task, so that tasks are resampled independently.
    """
    n = len(scores)
    values, counts = np.unique(scores, return_counts=True)
    draws = np.random.default_rng([settings.seed, stream]).multinomial(n, counts / n, settings.resamples)
    return Bootstrap(float(scores.mean()), draws @ values / n, n)


def bootstrap_joint(
    models: Sequence[Correct],
    statistic: Callable[..., Float[np.ndarray, " resamples"]],
    settings: IntervalSettings,
    stream: int,
) -> Bootstrap:
    """Bootstrap a statistic of several models' results on the same images, which are resampled together.

    Resampling images and counting the joint outcomes of k models is one multinomial draw over 2ᵏ outcomes.

    Args:
        models: which images each model classifies correctly.
        statistic: maps the number of correct images of each model, ``[resamples]`` each, to the statistic.
        settings: of the bootstrap.
        stream: number of the task.
    """
    n, outcomes = len(models[0]), 2 ** len(models)
    joint = np.sum([2**place * correct.astype(int) for place, correct in enumerate(models)], axis=0)
    observed = np.bincount(joint, minlength=outcomes)
    draws = np.random.default_rng([settings.seed, stream]).multinomial(n, observed / n, settings.resamples)
    correct_in = (np.arange(outcomes)[:, None] >> np.arange(len(models))) & 1
    return Bootstrap(float(statistic(*(observed[None] @ correct_in).T)[0]), statistic(*(draws @ correct_in).T), n)


def bootstrap_normalised(
    edited: Correct, single: Correct, settings: IntervalSettings, stream: int, task: str
) -> Bootstrap:
    """Bootstrap acc(edited) / acc(single-task model), both on the same resampled images.

    Raises:
        UserError: the single-task model classifies nothing correctly, so that the ratio has no value.
    """
    if not single.any():
        raise UserError(
            f"task {task}: its single-task model classifies none of {len(single)} images correctly, so normalised "
            "accuracy has no value; train it longer (epochs, finetune.lr) or leave the task out"
        )
    return bootstrap_joint([single, edited], lambda single, edited: ratio(edited, single), settings, stream)


def ratio(edited: Int64[np.ndarray, " resamples"], single: Int64[np.ndarray, " resamples"]) -> np.ndarray:
    """Return the normalised accuracy from counts of correct images of the edited and of the single-task model.

    NaN if a resample has no image that the single-task model classifies correctly.
    """
    return np.divide(edited, single, out=np.full(len(single), np.nan), where=single > 0)


def bootstrap_mean(tasks: Sequence[Bootstrap]) -> Bootstrap:
    """Bootstrap the mean over tasks, each resampled independently."""
    total = bootstrap_sum(tasks)
    return Bootstrap(total.value / len(tasks), total.resampled / len(tasks), total.n)


def bootstrap_sum(parts: Sequence[Bootstrap]) -> Bootstrap:
    """Bootstrap the sum of statistics of different images, each resampled independently."""
    return Bootstrap(
        float(np.sum([part.value for part in parts])),
        np.sum([part.resampled for part in parts], axis=0),
        sum(part.n for part in parts),
    )


def measure_tasks(
    recorder: Recorder,
    benchmark: str,
    setting: Setting,
    metric: str,
    tasks: Mapping[str, Bootstrap],
    settings: IntervalSettings,
    mean: Bootstrap | None = None,
) -> list[Measurement]:
    """Return a measurement per task and their mean.

    Args:
        recorder: of the model and the paradigm.
        benchmark, setting, metric: of all these measurements.
        tasks: the statistic by task.
        settings: of the bootstrap.
        mean: the mean over tasks, if they are not resampled independently.
    """
    rows = {Subject.of_task(task): statistic for task, statistic in tasks.items()}
    rows[Subject.of_mean()] = mean or bootstrap_mean(list(tasks.values()))
    return [
        recorder.estimate(benchmark, setting, subject, metric, statistic.estimate(settings))
        for subject, statistic in rows.items()
    ]
