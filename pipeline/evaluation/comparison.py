"""Differences between two paradigms, or two merging methods, on the same test images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.config import IntervalSettings
from pipeline.evaluation.intervals import Bootstrap, Correct, bootstrap_accuracy, bootstrap_joint, measure_tasks, ratio
from pipeline.measurements import Measurement, Recorder, Setting


@dataclass(frozen=True)
class Outcome:
    """Correctness per image of one task: of an edited model, and of the single-task model that normalises it."""

    edited: Correct
    single: Correct


def measure_difference(
    recorder: Recorder,
    benchmark: str,
    setting: Setting,
    ours: Mapping[str, Outcome],
    theirs: Mapping[str, Outcome],
    reference: str,
    settings: IntervalSettings,
) -> list[Measurement]:
    """Measure ours minus theirs: accuracy of the sum of all task vectors, absolute and normalised, per task and mean.

    Args:
        recorder: names our paradigm, or our merging method.
        benchmark: ``addition`` or ``merging``.
        setting: how α was chosen.
        ours: by task.
        theirs: of the paradigm or method called ``reference``, on the same images.
        reference: names the metric, ``accuracy_minus_<reference>``.
        settings: of the bootstrap, which resamples images and keeps all four outcomes of each together.
    """
    rows = []
    for metric in ("accuracy", "normalized"):
        tasks = {
            task: bootstrap_difference(outcome, theirs[task], metric == "normalized", settings, stream)
            for stream, (task, outcome) in enumerate(ours.items())
        }
        rows += measure_tasks(recorder, benchmark, setting, f"{metric}_minus_{reference}", tasks, settings)
    return rows


def measure_accuracy(
    recorder: Recorder,
    benchmark: str,
    setting: Setting,
    metric: str,
    ours: Mapping[str, Correct],
    theirs: Mapping[str, Correct],
    reference: str,
    settings: IntervalSettings,
) -> list[Measurement]:
    """Measure ours minus theirs in an accuracy, per task and mean, as ``<metric>_minus_<reference>``."""
    tasks = _accuracy_differences(ours, theirs, settings)
    return measure_tasks(recorder, benchmark, setting, f"{metric}_minus_{reference}", tasks, settings)


def measure_advantage(
    recorder: Recorder,
    ours: Mapping[str, Correct],
    theirs: Mapping[str, Correct],
    classes: Mapping[str, int],
    settings: IntervalSettings,
) -> list[Measurement]:
    """Measure the non-linear advantage of Ortiz-Jimenez et al., (theirs − ours) / (1 − 1 / classes), per task and mean.

    Args:
        recorder: of our paradigm.
        ours: outcomes of our single-task models, by task.
        theirs: outcomes of the single-task models in weight space.
        classes: the number of classes of each task.
        settings: of the bootstrap.
    """
    differences = _accuracy_differences(ours, theirs, settings)
    advantage = {task: difference.scaled(-1 / (1 - 1 / classes[task])) for task, difference in differences.items()}
    return measure_tasks(recorder, "single_task", "none", "nonlinear_advantage", advantage, settings)


def bootstrap_difference(
    ours: Outcome, theirs: Outcome, normalised: bool, settings: IntervalSettings, stream: int
) -> Bootstrap:
    """Bootstrap the difference of two accuracies, or of two normalised accuracies, on the same resampled images.

    ``stream`` numbers the task.
    """
    n = len(ours.edited)

    def difference(
        edited: np.ndarray, single: np.ndarray, their_edited: np.ndarray, their_single: np.ndarray
    ) -> Float[np.ndarray, " resamples"]:
        if not normalised:
            return (edited - their_edited) / n
        return ratio(edited, single) - ratio(their_edited, their_single)

    models = [ours.edited, ours.single, theirs.edited, theirs.single]
    return bootstrap_joint(models, difference, settings, stream)


def outcomes(edited: Mapping[str, Correct], single: Mapping[str, Correct], tasks: Sequence[str]) -> dict[str, Outcome]:
    """Return the outcomes of both models by task."""
    return {task: Outcome(edited[task], single[task]) for task in tasks}


def _accuracy_differences(
    ours: Mapping[str, Correct], theirs: Mapping[str, Correct], settings: IntervalSettings
) -> dict[str, Bootstrap]:
    return {
        task: bootstrap_accuracy(correct.astype(np.float64) - theirs[task], settings, stream)
        for stream, (task, correct) in enumerate(ours.items())
    }
