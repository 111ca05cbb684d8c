"""Disentanglement error: does a task vector, added, change what another one's model does on its own task?

ξ(α₁, α₂) = Σ_{t=1,2} E_{x~t} dist(f(x; θ₀ + αₜτₜ), f(x; θ₀ + α₁τ₁ + α₂τ₂)): Ortiz-Jimenez et al., with dist the
disagreement of predicted classes, each task with its own head; Jin et al., with the symmetrised KL divergence of the
softmax over embedding dimensions. Means are over the images that were used.
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
from pipeline.evaluation import Benchmark
from pipeline.evaluation.intervals import Bootstrap, bootstrap_accuracy, bootstrap_sum
from pipeline.evaluation.prediction import classify, embed
from pipeline.measurements import MEAN, Measurement, Recorder

# Of the grid, the share of points with less than this is the area of disentanglement.
DISENTANGLED = 0.05


@dataclass(frozen=True)
class Disturbance:
    """What another task vector changes on the images of one task.

    error: whether the predicted class differs, for own coefficient, the other's and image.
    divergence: symmetrised KL divergence, in nats.
    error_alpha_1: the error at α = 1 for both, which the grid need not hold.
    """

    error: Bool[np.ndarray, "alphas alphas n"]
    divergence: Float[np.ndarray, "alphas alphas n"]
    error_alpha_1: Bool[np.ndarray, " n"]


def disturbances(
    space: EditSpace, benchmark: Benchmark, position: int, alphas: Sequence[float], batch_size: int
) -> Iterator[tuple[int, Disturbance]]:
    """On the images of one task: the disturbance by every other task vector of the space, with its position.

    The edits by its own task vector alone are evaluated once for all others. Memory holds their embeddings.

    Args:
        space: holds the task vectors.
        benchmark: images of the task.
        position: of the task's vector in the space.
        alphas: the grid of either coefficient.
        batch_size: images at once.
    """
    axis = [*alphas, 1.0]
    own = torch.zeros(len(axis), space.size)
    own[:, position] = torch.tensor(axis)
    classes = np.empty((len(axis), len(benchmark)), np.int16)
    log_shares: list[list[Tensor]] = [[] for _ in axis]
    head = benchmark.head.to(space.device)
    for edit, _, images, embeddings in embed(space, own, [benchmark], batch_size, f"{benchmark.task} alone"):
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
        for edit, _, images, embeddings in embed(space, both, [benchmark], batch_size, description):
            i = pairs[edit][0]
            error[edit, images] = classify(head, embeddings) != classes[i, images]
            divergence[edit, images] = _symmetrised_kl(alone[i][images], embeddings.log_softmax(dim=1)).cpu().numpy()
        grid = (len(alphas), len(alphas), len(benchmark))
        yield other, Disturbance(error[:-1].reshape(grid), divergence[:-1].reshape(grid), error[-1])


def _symmetrised_kl(p: Float[Tensor, "n features"], q: Float[Tensor, "n features"]) -> Float[Tensor, " n"]:
    """(KL(p‖q) + KL(q‖p)) / 2 of log-probabilities, per image."""
    return ((p.exp() - q.exp()) * (p - q)).sum(dim=1) / 2


@dataclass(frozen=True)
class Heatmap:
    """ξ of one pair of tasks: the disturbance of the first by the second, and of the second by the first."""

    first: Disturbance
    second: Disturbance

    def error(self) -> Float[np.ndarray, "alphas alphas"]:
        """Disagreement of predictions at (α₁, α₂), in [0, 2]."""
        return self.first.error.mean(axis=2) + self.second.error.mean(axis=2).T  # the second's own is α₂

    def divergence(self) -> Float[np.ndarray, "alphas alphas"]:
        """Divergence of representations at (α₁, α₂), in nats."""
        return self.first.divergence.mean(axis=2) + self.second.divergence.mean(axis=2).T

    def frame(self, alphas: Sequence[float]) -> pd.DataFrame:
        """One row per point of the grid: ``alpha_1``, ``alpha_2``, ``error``, ``divergence``."""
        points = pd.DataFrame(itertools.product(alphas, repeat=2), columns=["alpha_1", "alpha_2"])
        return points.assign(error=self.error().ravel(), divergence=self.divergence().ravel())


def measure_disentanglement(
    recorder: Recorder,
    tasks: Sequence[str],
    found: Mapping[tuple[int, int], Disturbance],
    settings: IntervalSettings,
) -> list[Measurement]:
    """Numbers of every pair, ``a+b``, and their means over pairs.

    error: mean of ξ over the grid. error_alpha_1: ξ at α₁ = α₂ = 1. area: share of the grid with ξ < 5 %. divergence:
    mean over the grid of the representation-level error.

    Args:
        recorder: names the paradigm.
        tasks: names by position.
        found: by the positions of the disturbed task and of the other.
        settings: of the bootstrap over images; those of a task are the same in all its pairs.
    """
    pairs = list(itertools.combinations(range(len(tasks)), 2))
    scores = {
        "error": {key: d.error.mean(axis=(0, 1)) for key, d in found.items()},
        "error_alpha_1": {key: d.error_alpha_1.astype(np.float64) for key, d in found.items()},
        "divergence": {key: d.divergence.mean(axis=(0, 1), dtype=np.float64) for key, d in found.items()},
    }
    rows = []
    for metric, of_images in scores.items():
        for a, b in pairs:
            ends = [bootstrap_accuracy(of_images[key], settings, key[0]) for key in ((a, b), (b, a))]
            estimate = bootstrap_sum(ends).estimate(settings)
            rows.append(recorder.estimate("disentanglement", "none", f"{tasks[a]}+{tasks[b]}", metric, estimate))
        mean = bootstrap_sum(_over_pairs(of_images, len(tasks), len(pairs), settings)).estimate(settings)
        rows.append(recorder.estimate("disentanglement", "none", MEAN, metric, mean))
    areas = []
    for a, b in pairs:
        areas.append(float((Heatmap(found[a, b], found[b, a]).error() < DISENTANGLED).mean()))
        rows.append(recorder.number("disentanglement", "none", f"{tasks[a]}+{tasks[b]}", "area", areas[-1]))
    rows.append(recorder.number("disentanglement", "none", MEAN, "area", float(np.mean(areas))))
    return rows


def _over_pairs(
    scores: Mapping[tuple[int, int], Float[np.ndarray, " _"]], tasks: int, pairs: int, settings: IntervalSettings
) -> list[Bootstrap]:
    """Each task's share of the mean over pairs: its images are the same in all of them."""
    return [
        bootstrap_accuracy(np.sum([s for (own, _), s in scores.items() if own == task], axis=0) / pairs, settings, task)
        for task in range(tasks)
    ]
