"""Interference of task vectors: ‖J(x)τ‖ on other tasks' images, and the accuracy lost there.

Yoshida et al.: τJp(t, s) is the mean over images x of task s of ‖J(x)τₜ‖₂, J of the encoder's output before L2
normalisation at θ₀; the smaller it is, the less adding τₜ should reduce the accuracy on task s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from pipeline.config import IntervalSettings
from pipeline.evaluation.intervals import Bootstrap, bootstrap_accuracy
from pipeline.measurements import Measurement, Recorder, Subject


@dataclass(frozen=True)
class Interference:
    """The effect of every task vector on the images of one task.

    moved: ‖J(x)τₜ‖₂ per task vector and image.
    zero_shot: whether θ₀ classifies the image correctly.
    added: whether θ₀ + τₜ classifies it correctly, in the paradigm's space.
    """

    moved: Float[np.ndarray, "vectors n"]
    zero_shot: Bool[np.ndarray, " n"]
    added: Bool[np.ndarray, "vectors n"]

    def drop(self) -> Float[np.ndarray, "vectors n"]:
        """Return the correctness lost by adding each vector: 1 lost, −1 gained, 0 unchanged."""
        return self.zero_shot.astype(np.float64) - self.added


def measure_interference(
    recorder: Recorder, vectors: Sequence[str], interferences: Mapping[str, Interference], settings: IntervalSettings
) -> list[Measurement]:
    """Measure τJp and the drop in accuracy for every ordered pair (t, s), and their rank correlation over pairs t ≠ s.

    Args:
        recorder: of the model and the paradigm.
        vectors: the tasks of the task vectors, in order.
        interferences: by the task of the images; tasks without a vector (the control) do not enter the correlation.
        settings: of the bootstrap, over images, and over ordered pairs for the correlation.
    """
    rows = []
    pairs = []
    for stream, (data, interference) in enumerate(interferences.items()):
        for vector, moved, drop in zip(vectors, interference.moved, interference.drop(), strict=True):
            tau_jp, lost = (bootstrap_accuracy(scores, settings, stream) for scores in (moved, drop))
            pair = Subject.of_pair(vector, data)
            rows.append(recorder.estimate("tau_jp", "none", pair, "tau_jp", tau_jp.estimate(settings)))
            rows.append(recorder.estimate("tau_jp", "none", pair, "drop", lost.estimate(settings)))
            if vector != data and data in vectors:
                pairs.append((tau_jp.value, lost.value))
    mean = Subject.of_mean()
    means = np.mean(pairs, axis=0)
    rows.append(recorder.number("tau_jp", "none", mean, "tau_jp", float(means[0])))
    rows.append(recorder.number("tau_jp", "none", mean, "drop", float(means[1])))
    correlation = rank_correlation(np.array(pairs), settings)
    rows.append(
        recorder.estimate("tau_jp", "none", mean, "rank_correlation", correlation.estimate(settings))
        if np.isfinite(correlation.value)
        else recorder.number("tau_jp", "none", mean, "rank_correlation", float("nan"))
    )
    return rows


def rank_correlation(pairs: Float[np.ndarray, "n 2"], settings: IntervalSettings) -> Bootstrap:
    """Bootstrap Spearman's ρ of two numbers over n pairs; NaN where one of them does not vary."""
    draws = np.random.default_rng(settings.seed).integers(len(pairs), size=(settings.resamples, len(pairs)))
    return Bootstrap(_spearman(pairs), np.array([_spearman(pairs[draw]) for draw in draws]), len(pairs))


def _spearman(pairs: Float[np.ndarray, "n 2"]) -> float:
    if (pairs == pairs[0]).all(axis=0).any():
        return float("nan")
    # Spearman's ρ is Pearson's correlation of the ranks; tied values share a rank.
    return float(np.corrcoef(rankdata(pairs, axis=0).T)[0, 1])
