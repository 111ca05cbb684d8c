"""Differences between two paradigms on the same test images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pipeline.config import IntervalSettings
from pipeline.evaluation.intervals import Bootstrap, bootstrap_accuracy, bootstrap_mean, ratio
from pipeline.measurements import MEAN, Measurement, Recorder, Setting

Images = Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class Outcome:
    """Which images of one task an edited model, and the single-task model that normalises it, classify correctly."""

    edited: Images
    single: Images


def measure_difference(
    recorder: Recorder,
    setting: Setting,
    ours: Mapping[str, Outcome],
    theirs: Mapping[str, Outcome],
    reference: str,
    settings: IntervalSettings,
) -> list[Measurement]:
    """Ours minus theirs, per task and in the mean: accuracy of the sum of all task vectors, absolute and normalised.

    Args:
        recorder: names our paradigm.
        setting: how α was chosen.
        ours: by task.
        theirs: of the paradigm called ``reference``, on the same images.
        reference: names the metric, ``accuracy_minus_<reference>``.
        settings: of the bootstrap, which resamples images and keeps all four outcomes of each together.
    """
    rows = []
    for metric in ("accuracy", "normalized"):
        tasks = {
            task: bootstrap_difference(outcome, theirs[task], metric == "normalized", settings, stream)
            for stream, (task, outcome) in enumerate(ours.items())
        }
        tasks[MEAN] = bootstrap_mean(list(tasks.values()))
        rows += [
            recorder.estimate("addition", setting, task, f"{metric}_minus_{reference}", row.estimate(settings))
            for task, row in tasks.items()
        ]
    return rows


def measure_single_task(
    recorder: Recorder,
    ours: Mapping[str, Images],
    theirs: Mapping[str, Images],
    classes: Mapping[str, int],
    reference: str,
    settings: IntervalSettings,
) -> list[Measurement]:
    """Ours minus theirs in single-task accuracy, per task and in the mean, and what weight space has over us.

    That is the non-linear advantage of Ortiz-Jimenez et al., (theirs − ours) / (1 − 1 / classes).
    """
    rows = []
    tasks = {
        task: bootstrap_accuracy(o.astype(np.float64) - theirs[task], settings, i)
        for i, (task, o) in enumerate(ours.items())
    }
    advantage = {task: row.scaled(-1 / (1 - 1 / classes[task])) for task, row in tasks.items()}
    for metric, of_tasks in ((f"accuracy_minus_{reference}", tasks), ("nonlinear_advantage", advantage)):
        for task, row in {**of_tasks, MEAN: bootstrap_mean(list(of_tasks.values()))}.items():
            rows.append(recorder.estimate("single_task", "none", task, metric, row.estimate(settings)))
    return rows


def bootstrap_difference(
    ours: Outcome, theirs: Outcome, normalised: bool, settings: IntervalSettings, stream: int
) -> Bootstrap:
    """The difference of two accuracies, or of two normalised accuracies, on the same resampled images.

    Resampling images and counting their sixteen joint outcomes is one multinomial draw. ``stream`` numbers the task.
    """
    columns = [ours.edited, ours.single, theirs.edited, theirs.single]
    n = len(ours.edited)
    joint = sum(2**place * column.astype(int) for place, column in enumerate(columns))
    observed = np.bincount(np.asarray(joint), minlength=16)
    draws = np.random.default_rng([settings.seed, stream]).multinomial(n, observed / n, settings.resamples)
    outcomes = (np.arange(16)[:, None] >> np.arange(4)) & 1

    def difference(counts: np.ndarray) -> Float[np.ndarray, " resamples"]:
        edited, single, their_edited, their_single = (counts @ outcomes).T
        if not normalised:
            return (edited - their_edited) / n
        return ratio(edited, single) - ratio(their_edited, their_single)

    return Bootstrap(float(difference(observed[None])[0]), difference(draws), n)


def outcomes(edited: Mapping[str, Images], single: Mapping[str, Images], tasks: Sequence[str]) -> dict[str, Outcome]:
    """What both classify correctly, by task."""
    return {task: Outcome(edited[task], single[task]) for task in tasks}
