"""Predictions of K edits over T task vectors on any number of splits: the only code that evaluates encoders."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int16, Int64, Shaped
from torch import Tensor
from torch.linalg import vector_norm

from pipeline.editing.spaces import EditSpace
from pipeline.errors import UserError
from pipeline.images import LabelledImages
from pipeline.io.progress import progress
from pipeline.models.heads import Head

# Embeddings of NaN or infinite length predict no class, so they are never counted as correct.
NO_CLASS = -1


@dataclass(frozen=True)
class Benchmark:
    """A split of a task with the task's head.

    inputs: one per image, as the edit space takes them: uint8 images, or their tangent features.
    """

    task: str
    inputs: Shaped[np.ndarray, "n ..."]
    labels: Int64[np.ndarray, " n"]
    head: Head

    def __post_init__(self) -> None:
        if len(self.head.classes) <= int(self.labels.max()):
            raise UserError(
                f"task {self.task}: label {int(self.labels.max())}, but its head has only "
                f"{len(self.head.classes)} classes; run `dvc repro`"
            )

    @classmethod
    def of_images(cls, task: str, split: LabelledImages, head: Head) -> "Benchmark":
        """Return a benchmark whose inputs are the images themselves."""
        return cls(task, split.images, split.labels, head)

    def __len__(self) -> int:
        return len(self.labels)

    def sample(self, size: int, seed: int) -> "Benchmark":
        """Return at most ``size`` images, drawn at random without replacement, in their original order."""
        chosen = np.random.default_rng(seed).permutation(len(self))[:size]
        chosen.sort()
        return Benchmark(self.task, self.inputs[chosen], self.labels[chosen], self.head)


@dataclass(frozen=True)
class Predictions:
    """Predicted and true classes of a split.

    predicted: int16 ``[edits, n]``, -1 where the embedding's length is NaN or infinite.
    labels: int64 ``[n]``.
    """

    predicted: Int16[np.ndarray, "edits n"]
    labels: Int64[np.ndarray, " n"]

    def correct(self) -> Bool[np.ndarray, "edits n"]:
        """Return which images each edit classifies correctly."""
        return self.predicted == self.labels

    def accuracy(self) -> Float[np.ndarray, " edits"]:
        """Return the accuracy of each edit, in [0, 1]."""
        return self.correct().mean(axis=1)


def embed(
    space: EditSpace,
    coefficients: Float[Tensor, "edits tasks"],
    benchmarks: Sequence[Benchmark],
    description: str,
) -> Iterator[tuple[int, int, slice, Float[Tensor, "n features"]]]:
    """Embed all benchmarks' images under every edit.

    Args:
        space: the edit space, which computes the embeddings of the edited models.
        coefficients: one row per edit, one column per task vector of the space.
        benchmarks: the images, each read once per edit.
        description: shown beside the progress bar.

    Yields:
        Position of the edit, position of the benchmark, slice of its images, and their embeddings.
    """
    batches: list[Tensor] = []
    owners: list[tuple[int, slice]] = []
    for index, benchmark in enumerate(benchmarks):
        start = 0
        for batch in torch.from_numpy(benchmark.inputs).split(space.batch_size):
            batches.append(batch)
            owners.append((index, slice(start, start := start + len(batch))))
    passes = space.embeddings(coefficients, batches)
    for edit, batch, embeddings in progress(passes, description, len(coefficients) * len(batches)):
        yield edit, *owners[batch], embeddings


def predict(
    space: EditSpace,
    coefficients: Float[Tensor, "edits tasks"],
    benchmarks: Sequence[Benchmark],
    description: str,
) -> dict[str, Predictions]:
    """Predict the classes of all benchmarks' images under every edit, each with its own head; see :func:`.embed`.

    Returns:
        The predictions by task.
    """
    heads = [benchmark.head.to(space.device) for benchmark in benchmarks]
    predicted = [np.empty((len(coefficients), len(b)), np.int16) for b in benchmarks]
    for edit, index, images, embeddings in embed(space, coefficients, benchmarks, description):
        predicted[index][edit, images] = classify(heads[index], embeddings)
    return {b.task: Predictions(p, b.labels) for b, p in zip(benchmarks, predicted, strict=True)}


def classify(head: Head, embeddings: Float[Tensor, "n features"]) -> Int16[np.ndarray, " n"]:
    """Return the predicted classes; -1 where an embedding has no direction."""
    logits = head.logits(embeddings)
    classes = logits.argmax(dim=1).where(logits.isfinite().all(dim=1) & have_direction(embeddings), NO_CLASS)
    return classes.to(torch.int16).cpu().numpy()


def have_direction(embeddings: Float[Tensor, "n features"]) -> Bool[Tensor, " n"]:
    """Return which embeddings have a finite length: divided by an infinite one, all others would be zero."""
    return vector_norm(embeddings, dim=-1).isfinite()
