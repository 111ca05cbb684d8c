"""Which images a step sees, as functions of the seed and the step alone: a resumed run needs no generator's state."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from pipeline.config import OtherTasks, PaddedCrop, ResizedCrop
from pipeline.tasks import LabelledImages
from pipeline.tasks.images import Images
from pipeline.training.augmentation import draw

# What the random numbers of a step are for.
_ORDER, _CROPS, _OTHERS = range(3)


@dataclass(frozen=True)
class Picked:
    """Images that are still where they are stored, and what the augmentation is to do to each.

    images: all of a task, which may be memory-mapped.
    indices: those that are picked.
    draws: a row for each of these.
    labels: of these; ``None`` for images of other tasks.
    """

    images: Images
    indices: Int64[np.ndarray, " picked"]
    draws: Int64[Tensor, "picked numbers"]
    labels: Int64[np.ndarray, " picked"] | None = None

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class Batches:
    """Full mini-batches of one task, cropped at random; what does not fill a batch waits for the next epoch's order."""

    train: LabelledImages
    size: int
    crop: PaddedCrop | ResizedCrop
    seed: int

    @property
    def per_epoch(self) -> int:
        """Steps in a pass over ``train``; ``size`` is at most the number of images."""
        return len(self.train) // self.size

    def iterate(self, first: int, steps: int) -> Iterator[tuple[int, int, Picked]]:
        """``(step, epoch, images and labels)`` from step ``first`` up to ``steps``."""
        order = np.empty(0, np.int64)
        for step in range(first, steps):
            epoch, position = divmod(step, self.per_epoch)
            if position == 0 or step == first:
                order = np.random.default_rng([self.seed, _ORDER, epoch]).permutation(len(self.train))
            indices = order[position * self.size : (position + 1) * self.size]
            random = np.random.default_rng([self.seed, _CROPS, step])
            draws = draw(self.crop, self.size, self.train.images.shape[2:], random)
            yield step, epoch, Picked(self.train.images, indices, draws, self.train.labels[indices])


@dataclass(frozen=True)
class OtherBatches:
    """Unlabelled images of other tasks for a regulariser, cropped as the task's own."""

    images: Mapping[str, Images]
    settings: OtherTasks
    crop: PaddedCrop | ResizedCrop
    seed: int

    def of_step(self, step: int) -> list[Picked]:
        """A batch of one other task, in turn (``cyclic``), or of every other task (``strict``)."""
        tasks = list(self.images)
        chosen = range(len(tasks)) if self.settings.mode == "strict" else [step % len(tasks)]
        return [self._sample(self.images[tasks[index]], step, index) for index in chosen]

    def _sample(self, images: Images, step: int, index: int) -> Picked:
        random = np.random.default_rng([self.seed, _OTHERS, step, index])
        size = min(self.settings.batch_size, len(images))
        indices = np.sort(random.choice(len(images), size, replace=False))
        return Picked(images, indices, draw(self.crop, size, images.shape[2:], random))
