"""The images of each step, as a function of the seed and the step alone: resuming needs no generator state."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from pipeline.config import OtherTasks, PaddedCrop, ResizedCrop
from pipeline.errors import UserError
from pipeline.images import LabelledImages
from pipeline.images.images import Images
from pipeline.training.augmentation import draw
from pipeline.training.plan import Plan, TrainingData
from pipeline.training.processes import Processes

# Purposes of a step's random numbers.
_ORDER, _CROPS, _OTHERS = range(3)


@dataclass(frozen=True)
class Picked:
    """Images that are not loaded yet, with their random crops.

    images: all images of a task, which may be memory-mapped.
    indices: of the picked images.
    draws: the random numbers of each picked image's crop.
    labels: of the picked images; ``None`` for images of other tasks.
    """

    images: Images
    indices: Int64[np.ndarray, " picked"]
    draws: Int64[Tensor, "picked numbers"]
    labels: Int64[np.ndarray, " picked"] | None = None

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class Batches:
    """Mini-batches of one task, cropped at random; the last batch of an epoch has the remaining images.

    size: images per batch, at most the number of images.
    """

    train: LabelledImages
    size: int
    crop: PaddedCrop | ResizedCrop
    seed: int

    @property
    def per_epoch(self) -> int:
        """Return the number of steps in a pass over ``train``."""
        return math.ceil(len(self.train) / self.size)

    def iterate(self, first: int, steps: int) -> Iterator[tuple[int, int, Picked]]:
        """Yield ``(step, epoch, images and labels)`` from step ``first`` up to ``steps``."""
        order = np.empty(0, np.int64)
        for step in range(first, steps):
            epoch, position = divmod(step, self.per_epoch)
            if position == 0 or step == first:
                order = np.random.default_rng([self.seed, _ORDER, epoch]).permutation(len(self.train))
            indices = order[position * self.size : (position + 1) * self.size]
            random = np.random.default_rng([self.seed, _CROPS, step])
            draws = draw(self.crop, len(indices), self.train.images.shape[2:], random)
            yield step, epoch, Picked(self.train.images, indices, draws, self.train.labels[indices])


@dataclass(frozen=True)
class OtherBatches:
    """Unlabelled images of other tasks for a regulariser, cropped like the task's own."""

    images: Mapping[str, Images]
    settings: OtherTasks
    crop: PaddedCrop | ResizedCrop
    seed: int

    def of_step(self, step: int) -> list[Picked]:
        """Return a batch of one other task, in turn (``cyclic``), or of every other task (``strict``)."""
        tasks = list(self.images)
        chosen = range(len(tasks)) if self.settings.mode == "strict" else [step % len(tasks)]
        return [self._sample(self.images[tasks[index]], step, index) for index in chosen]

    def _sample(self, images: Images, step: int, index: int) -> Picked:
        random = np.random.default_rng([self.seed, _OTHERS, step, index])
        size = min(self.settings.batch_size, len(images))
        indices = np.sort(random.choice(len(images), size, replace=False))
        return Picked(images, indices, draw(self.crop, size, images.shape[2:], random))


def count_images(images: int, batch_size: int, steps: int) -> int:
    """Return how many of ``images`` training images the first ``steps`` steps see, counting repetitions."""
    size = min(batch_size, images)
    epochs, rest = divmod(steps, math.ceil(images / size))
    return epochs * images + rest * size


def make_batches(data: TrainingData, plan: Plan, processes: Processes) -> tuple[Batches, OtherBatches | None]:
    """Return the batches of the task, and those of other tasks if the regulariser sees any.

    Raises:
        UserError: a batch cannot be divided among the processes and micro-batches, or there are no other tasks.
    """
    settings = plan.settings
    size = min(settings.batch_size, len(data.train))
    if size < processes.count * settings.accumulation:
        raise UserError(
            f"a batch of {size} images cannot be divided among {processes.count} processes with "
            f"{settings.accumulation} micro-batches; lower finetune.processes or finetune.accumulation in params.yaml"
        )
    batches = Batches(data.train, size, settings.augmentation, plan.seed)
    if plan.regulariser is None or plan.regulariser.others is None:
        return batches, None
    if not data.others:
        raise UserError(f"regulariser {plan.regulariser.name}: there are no other tasks to take images from; add some")
    return batches, OtherBatches(data.others, plan.regulariser.others, settings.augmentation, plan.seed)
