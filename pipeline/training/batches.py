"""Which images a step sees, as functions of the seed and the step alone: a resumed run needs no generator's state."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from pipeline.config import OtherTasks
from pipeline.tasks import LabelledImages
from pipeline.tasks.images import Images
from pipeline.training.augmentation import random_crops

# Those of several tasks need not be equally large.
Batch = UInt8[Tensor, "_ channels height width"]

# What the random numbers of a step are for.
_ORDER, _CROPS, _OTHERS = range(3)


@dataclass(frozen=True)
class Batches:
    """Full mini-batches of one task, cropped at random; what does not fill a batch waits for the next epoch's order."""

    train: LabelledImages
    size: int
    padding: int
    seed: int

    @property
    def per_epoch(self) -> int:
        """Steps in a pass over ``train``; ``size`` is at most the number of images."""
        return len(self.train) // self.size

    def iterate(self, first: int, steps: int) -> Iterator[tuple[int, int, Batch, Int64[Tensor, " n"]]]:
        """``(step, epoch, images, labels)`` from step ``first`` up to ``steps``."""
        order = np.empty(0, np.int64)
        for step in range(first, steps):
            epoch, position = divmod(step, self.per_epoch)
            if position == 0 or step == first:
                order = np.random.default_rng([self.seed, _ORDER, epoch]).permutation(len(self.train))
            batch = order[position * self.size : (position + 1) * self.size]
            images, labels = torch.from_numpy(self.train.images[batch]), torch.from_numpy(self.train.labels[batch])
            random = np.random.default_rng([self.seed, _CROPS, step])
            yield step, epoch, random_crops(images, self.padding, random), labels


@dataclass(frozen=True)
class OtherBatches:
    """Unlabelled images of other tasks for a regulariser, cropped as the task's own."""

    images: Mapping[str, Images]
    settings: OtherTasks
    padding: int
    seed: int

    def of_step(self, step: int) -> list[Batch]:
        """A batch of one other task, in turn (``cyclic``), or of every other task (``strict``)."""
        tasks = list(self.images)
        chosen = range(len(tasks)) if self.settings.mode == "strict" else [step % len(tasks)]
        return [self._sample(self.images[tasks[index]], step, index) for index in chosen]

    def _sample(self, images: Images, step: int, index: int) -> Batch:
        random = np.random.default_rng([self.seed, _OTHERS, step, index])
        size = min(self.settings.batch_size, len(images))
        picked = images[np.sort(random.choice(len(images), size, replace=False))]
        return random_crops(torch.from_numpy(picked), self.padding, random)
