"""Disentanglement error: how much adding a task vector changes another single-task model on its own task.

ξ(α₁, α₂) = Σ_{t=1,2} E_{x~t} dist(f(x; θ₀ + αₜτₜ), f(x; θ₀ + α₁τ₁ + α₂τ₂)): Ortiz-Jimenez et al., with dist the
disagreement of predicted classes, each task with its own head; Jin et al., with the symmetrised KL divergence of the
softmax over embedding dimensions. E is the mean over the images used.

ξ is a sum over the two tasks. The code of Yoshida et al. (τJp) reports the mean of the two, so its ξ is half of ours.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pipeline.config import IntervalSettings
from pipeline.editing.spaces import EditSpace
from pipeline.evaluation.intervals import Bootstrap, bootstrap_accuracy, bootstrap_sum
from pipeline.evaluation.prediction import Benchmark, classify, embed
from pipeline.measurements import Measurement, Recorder, Subject

# The area of disentanglement is the share of grid points with an error below this.
DISENTANGLED = 0.05


@dataclass(frozen=True)
class Disturbance:
    """The changes that another task vector causes on the images of one task.

    error: whether the predicted class changes, by own coefficient, other coefficient and image.
    divergence: symmetrised KL divergence, in nats.
    error_alpha_1: the error at α = 1 for both, which need not be in the grid.
    """

    error: Bool[np.ndarray, "alphas alphas n"]
    divergence: Float[np.ndarray, "alphas alphas n"]
    error_alpha_1: Bool[np.ndarray, " n"]


def disturbances(
    space: EditSpace, benchmark: Benchmark, position: int, alphas: Sequence[float]
) -> Iterator[tuple[int, Disturbance]]:
    """Yield the position of every other task vector of the space and its disturbance on the images of one task.

    The edits by the task's own vector alone are evaluated once for all others; their embeddings stay in memory.

    Args:
        space: the edit space, with the task vectors.
        benchmark: the images of the task.
        position: position of the task's vector in the space.
        alphas: the grid of both coefficients.
    """
    axis = [*alphas, 1.0]
    own = torch.zeros(len(axis), space.size)
    own[:, position] = torch.tensor(axis)
    classes = np.empty((len(axis), len(benchmark)), np.int16)
    log_shares: list[list[Tensor]] = [[] for _ in axis]
    head = benchmark.head.to(space.device)
    for edit, _, images, embeddings in embed(space, own, [benchmark], f"{benchmark.task} alone"):
        classes[edit, images] = classify(head, embeddings)
        log_shares[edit].append(embeddings.log_softmax(dim=1))
    alone = [torch.cat(parts) for parts in log_shares]

    pairs = [*itertools.product(range(len(alphas)), repeat=2), (len(alphas), len(alphas))]
    for other in range(space.size):
        if other == position:
            continue
        both = torch.zeros(len(pairs), space.size)
        both[:, position] = torch.tensor([axis[i] for i, _ in pairs])
        both[:, other] = torch.tensor([axis[j] for _, j in pairs])
        error = np.empty((len(pairs), len(benchmark)), np.bool_)
        divergence = np.empty((len(pairs), len(benchmark)), np.float32)
        description = f"{benchmark.task} beside task vector {other + 1}"
        for edit, _, images, embeddings in embed(space, both, [benchmark], description):
            i = pairs[edit][0]
            error[edit, images] = classify(head, embeddings) != classes[i, images]
            divergence[edit, images] = _symmetrised_kl(alone[i][images], embeddings.log_softmax(dim=1)).cpu().numpy()
        grid = (len(alphas), len(alphas), len(benchmark))
        yield other, Disturbance(error[:-1].reshape(grid), divergence[:-1].reshape(grid), error[-1])


def _symmetrised_kl(p: Float[Tensor, "n features"], q: Float[Tensor, "n features"]) -> Float[Tensor, " n"]:
    """Return (KL(p‖q) + KL(q‖p)) / 2 of log-probabilities, per image."""
    return ((p.exp() - q.exp()) * (p - q)).sum(dim=1) / 2


@dataclass(frozen=True)
class Heatmap:
    """ξ of one pair of tasks: the disturbance of the first by the second, and of the second by the first."""

    first: Disturbance
    second: Disturbance

    def error(self) -> Float[np.ndarray, "alphas alphas"]:
        """Return the disagreement of predictions at (α₁, α₂), in [0, 2]."""
        return self.first.error.mean(axis=2) + self.second.error.mean(axis=2).T  # α₂ is the second task's own

    def divergence(self) -> Float[np.ndarray, "alphas alphas"]:
        """Return the divergence of representations at (α₁, α₂), in nats."""
        return self.first.divergence.mean(axis=2) + self.second.divergence.mean(axis=2).T

    def frame(self, alphas: Sequence[float]) -> pd.DataFrame:
        """Return one row per grid point: ``alpha_1``, ``alpha_2``, ``error``, ``divergence``."""
        points = pd.DataFrame(itertools.product(alphas, repeat=2), columns=["alpha_1", "alpha_2"])
        return points.assign(error=self.error().ravel(), divergence=self.divergence().ravel())


def measure_disentanglement(
    recorder: Recorder,
    tasks: Sequence[str],
    disturbed: Mapping[tuple[int, int], Disturbance],
    settings: IntervalSettings,
) -> list[Measurement]:
    """Measure every pair of tasks, and the means over pairs.

    error: mean of ξ over the grid. error_alpha_1: ξ at α₁ = α₂ = 1. area: share of the grid with ξ < 5 %. divergence:
    mean over the grid of the representation-level error.

    Args:
        recorder: of the model and the paradigm.
        tasks: the tasks' names, by position.
        disturbed: disturbances by the positions of the disturbed task and of the other task.
        settings: of the bootstrap over images; a task's images are the same in all its pairs.
    """
    pairs = list(itertools.combinations(range(len(tasks)), 2))
    subjects = {(a, b): Subject.of_pair(tasks[a], tasks[b]) for a, b in pairs}
    metrics = {
        "error": {key: d.error.mean(axis=(0, 1)) for key, d in disturbed.items()},
        "error_alpha_1": {key: d.error_alpha_1.astype(np.float64) for key, d in disturbed.items()},
        "divergence": {key: d.divergence.mean(axis=(0, 1), dtype=np.float64) for key, d in disturbed.items()},
    }
    rows = []
    for metric, scores in metrics.items():
        for (a, b), subject in subjects.items():
            ends = [bootstrap_accuracy(scores[key], settings, key[0]) for key in ((a, b), (b, a))]
            estimate = bootstrap_sum(ends).estimate(settings)
            rows.append(recorder.estimate("disentanglement", "none", subject, metric, estimate))
        mean = bootstrap_sum(_over_pairs(scores, len(tasks), len(pairs), settings)).estimate(settings)
        rows.append(recorder.estimate("disentanglement", "none", Subject.of_mean(), metric, mean))
    areas = []
    for (a, b), subject in subjects.items():
        areas.append(float((Heatmap(disturbed[a, b], disturbed[b, a]).error() < DISENTANGLED).mean()))
        rows.append(recorder.number("disentanglement", "none", subject, "area", areas[-1]))
    rows.append(recorder.number("disentanglement", "none", Subject.of_mean(), "area", float(np.mean(areas))))
    return rows


def _over_pairs(
    scores: Mapping[tuple[int, int], Float[np.ndarray, " _"]], tasks: int, pairs: int, settings: IntervalSettings
) -> list[Bootstrap]:
    """Bootstrap each task's share of the mean over pairs; its images are the same in all of them."""
    return [
        bootstrap_accuracy(np.sum([s for (own, _), s in scores.items() if own == task], axis=0) / pairs, settings, task)
        for task in range(tasks)
    ]
