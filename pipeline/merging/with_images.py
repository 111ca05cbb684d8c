"""Merging with the encoder and unlabelled or labelled images of the tasks at hand.

Most methods see one tensor at a time. Those here run the partly merged encoder on images, so they take all vectors and
the encoder at once. Their result has the same form: T task vectors whose sum is the merged one.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from pydantic import Field
from torch import Tensor

from pipeline.editing import TaskVector, write_task_vector
from pipeline.errors import UserError
from pipeline.merging.driver import Step, merge
from pipeline.merging.elementwise import Fraction, Seed
from pipeline.merging.matrices import block_of
from pipeline.merging.registry import merging_with_images
from pipeline.merging.statistics import gram_matrices
from pipeline.models.checkpoints import code_fingerprint
from pipeline.models.encoders import ImageEncoder
from pipeline.models.heads import Head

Positive = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class TaskImages:
    """Images of a task, which are not those that results are reported on, and the task's head."""

    images: UInt8[np.ndarray, "n 3 _ _"]
    labels: Int64[np.ndarray, " n"]
    head: Head

    def __len__(self) -> int:
        return len(self.labels)

    def sample(self, count: int, seed: int) -> UInt8[Tensor, "m 3 _ _"]:
        """Return at most ``count`` images, drawn at random without replacement."""
        return torch.from_numpy(self.images[np.random.default_rng(seed).permutation(len(self))[:count]])


@dataclass(frozen=True)
class MergedWithImages:
    """T task vectors whose sum is the merged one, and a record of how they came about for ``merging.json``."""

    vectors: list[TaskVector]
    record: dict[str, Any] = field(default_factory=dict)

    def write(self, directory: Path, recipe: str) -> None:
        """Write the vectors, one file per task, with ``recipe`` in their provenance."""
        code = code_fingerprint()
        for vector in self.vectors:
            made = TaskVector(vector.tensors, replace(vector.provenance, recipe=recipe, code=code))
            write_task_vector(directory / f"{'+'.join(made.provenance.tasks)}.safetensors", made)


def merge_with_images(
    vectors: Sequence[TaskVector], encoder: ImageEncoder, images: Mapping[str, TaskImages], method: Step
) -> MergedWithImages:
    """Merge task vectors by a method that runs the encoder on images.

    Args:
        vectors: one per task, from the encoder's θ₀.
        encoder: at θ₀, where it is again at the end; its device is where everything runs.
        images: of every task.
        method: the step.

    Raises:
        UserError: the method or an option is unknown, the vectors do not fit together or to the encoder, a task has no
            images, or a result is NaN or infinite.
    """
    chosen = merging_with_images.find(method.name)
    options = chosen.options(method.options)
    where = f"{chosen.kind} {chosen.name}"
    padded = merge(vectors, Step("sum"))  # checks the vectors, and gives all of them the same tensors
    for vector in padded:
        task = "+".join(vector.provenance.tasks)
        if task not in images:
            raise UserError(f"{where}: has no images of task {task!r}; give it some of val")
        if not len(images[task]):
            raise UserError(f"{where}: task {task!r} has no images; give at least one")
        if vector.provenance.base_sha256 != encoder.sha256:
            raise UserError(f"{where}: {vector.provenance} starts from another θ₀ than the encoder")
        vector.check_fits(dict(encoder.visual.named_parameters()))
    ordered = [images["+".join(vector.provenance.tasks)] for vector in padded]
    merged = chosen.function(padded, encoder, ordered, **options)
    for vector in merged.vectors:
        for name, tensor in vector.tensors.items():
            if not torch.isfinite(tensor).all():
                raise UserError(f"{where}: tensor {name!r} of {vector.provenance} became NaN or infinite")
    step = {"kind": chosen.kind, "name": chosen.name, "options": options, "sees": chosen.sees}
    return MergedWithImages(merged.vectors, {"steps": [step], **merged.record})


@merging_with_images("regmean_plus_plus", sees="other tasks' unlabelled images")
def regmean_plus_plus(
    vectors: Sequence[TaskVector],
    encoder: ImageEncoder,
    images: Sequence[TaskImages],
    *,
    off_diagonal: Fraction = 0.95,
    count: Positive = 256,
    batch_size: Positive = 32,
    seed: Seed = 0,
) -> MergedWithImages:
    """RegMean from the first block to the last, with inputs that come from the blocks merged before.

    A block's Gram matrices are those of the task's own block, after the merged blocks before it. Everything outside the
    blocks' linear layers is averaged.

    Args:
        vectors, encoder, images: in the same order.
        off_diagonal: what the Gram matrices' entries off the diagonal are scaled by.
        count: images per task.
        batch_size: images at once.
        seed: of the choice of images.
    """
    batches = [i.sample(count, seed).to(encoder.mean.device).split(batch_size) for i in images]
    merged = merge(vectors, Step("average"))
    blocks = sorted({block for name in vectors[0].tensors if (block := block_of(name)) is not None})
    for block in blocks:
        names = {name for name in vectors[0].tensors if block_of(name) == block}
        own = [TaskVector({n: vector.tensors[n] for n in sorted(names)}, vector.provenance) for vector in vectors]
        so_far = {n: torch.stack([m.tensors[n] for m in merged]).sum(0) for n in merged[0].tensors}
        statistics = {}
        for vector, given in zip(own, batches, strict=True):
            with moved(encoder, {**so_far, **vector.tensors}):
                origin = vector.provenance
                statistics["+".join(origin.tasks)] = gram_matrices(encoder, given, origin.base_sha256, names)
        parts = merge(own, Step("regmean", {"off_diagonal": off_diagonal}), statistics=statistics)
        merged = [TaskVector({**m.tensors, **p.tensors}, m.provenance) for m, p in zip(merged, parts, strict=True)]
    return MergedWithImages(merged)


@contextmanager
def moved(encoder: ImageEncoder, deltas: Mapping[str, Tensor]) -> Iterator[None]:
    """Add to the encoder's parameters while the block runs, then put back exactly what was there."""
    parameters = {name: p for name, p in encoder.visual.named_parameters() if name in deltas}
    before = {name: p.detach().clone() for name, p in parameters.items()}
    try:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.add_(deltas[name].to(parameter))
        yield
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(before[name])
