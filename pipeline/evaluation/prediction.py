"""The one place that runs encoders for evaluation: K edits over T task vectors, on any number of splits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int16, Int64
from torch import Tensor

from pipeline.editing.spaces import EditSpace
from pipeline.errors import UserError
from pipeline.models.heads import Head
from pipeline.progress import progress
from pipeline.tasks import LabelledImages

# Embeddings with NaN or infinity predict no class, so they are never counted as correct.
NO_CLASS = -1


@dataclass(frozen=True)
class Benchmark:
    """A split of a task with the task's head."""

    task: str
    split: LabelledImages
    head: Head

    def __post_init__(self) -> None:
        if len(self.head.classes) <= int(self.split.labels.max()):
            raise UserError(
                f"task {self.task}: label {int(self.split.labels.max())} but its head has only "
                f"{len(self.head.classes)} classes; run `dvc repro` again"
            )


@dataclass(frozen=True)
class Predictions:
    """Predicted classes of K edits on a split, and the true ones.

    predicted: int16 ``[edits, n]``, -1 where the embedding was no number.
    labels: int64 ``[n]``.
    """

    predicted: Int16[np.ndarray, "edits n"]
    labels: Int64[np.ndarray, " n"]

    def correct(self) -> Bool[np.ndarray, "edits n"]:
        """Which images each edit classifies correctly."""
        return self.predicted == self.labels

    def accuracy(self) -> Float[np.ndarray, " edits"]:
        """Accuracy of each edit, in [0, 1]."""
        return self.correct().mean(axis=1)


def predict(
    space: EditSpace,
    coefficients: Float[Tensor, "edits tasks"],
    benchmarks: Sequence[Benchmark],
    batch_size: int,
    description: str,
) -> dict[str, Predictions]:
    """Predict the classes of all benchmarks' images under every edit.

    Args:
        space: gives the embeddings of the edited models.
        coefficients: one row per edit, one column per task vector of the space.
        benchmarks: splits with their heads; each image is read once per edit and classified by its own head.
        batch_size: images per forward pass.
        description: shown beside the progress bar.

    Returns:
        The predictions by task.
    """
    batches, owners = _batches(benchmarks, batch_size)
    heads = [benchmark.head.to(space.device) for benchmark in benchmarks]
    predicted = [np.empty((len(coefficients), len(b.split)), np.int16) for b in benchmarks]
    total = len(coefficients) * len(batches)
    passes = space.embeddings(coefficients, batches)
    for edit, batch, embeddings in progress(passes, description, total):
        owner, start = owners[batch]
        logits = heads[owner].logits(embeddings)
        classes = logits.argmax(dim=1).where(logits.isfinite().all(dim=1), NO_CLASS)
        predicted[owner][edit, start : start + len(classes)] = classes.cpu().numpy()
    return {b.task: Predictions(p, b.split.labels) for b, p in zip(benchmarks, predicted, strict=True)}


def _batches(benchmarks: Sequence[Benchmark], batch_size: int) -> tuple[list[Tensor], list[tuple[int, int]]]:
    """All images in batches, each with the index of its benchmark and of its first image there."""
    batches, owners = [], []
    for index, benchmark in enumerate(benchmarks):
        images = torch.from_numpy(benchmark.split.images)
        for start, batch in _slices(images, batch_size):
            batches.append(batch)
            owners.append((index, start))
    return batches, owners


def _slices(images: Tensor, batch_size: int) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, len(images), batch_size):
        yield start, images[start : start + batch_size]
