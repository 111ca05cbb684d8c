"""What a fine-tuning computes: its data and everything else that decides the outcome."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from pipeline.config import FinetuneSettings, RegulariserSettings
from pipeline.models.heads import Head
from pipeline.tasks import LabelledImages
from pipeline.tasks.images import Images


@dataclass(frozen=True)
class TrainingData:
    """The split to learn, the task's frozen classifier, and other tasks' unlabelled images for a regulariser."""

    train: LabelledImages
    head: Head
    others: Mapping[str, Images] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Everything but the data that decides what a fine-tuning computes.

    settings: what all tasks and recipes share.
    lr: peak learning rate.
    epochs: passes over the training images; need not be whole.
    seed: fixes the order of the images and the augmentation, each as a function of (seed, step) alone.
    regulariser: the recipe's, if any.
    steps: how many, whatever the epochs.
    """

    settings: FinetuneSettings
    lr: float
    epochs: float
    seed: int
    regulariser: RegulariserSettings | None = None
    steps: int | None = None

    def count_steps(self, per_epoch: int) -> int:
        """The steps of a task with so many steps per epoch; at least one."""
        return max(1, round(self.epochs * per_epoch) if self.steps is None else self.steps)

    def learning_rate(self, step: int, steps: int) -> float:
        """Linear warm-up over ``warmup_steps``, or the first share ``warmup`` of the steps, then a cosine to 0."""
        settings = self.settings
        rising = round(settings.warmup * steps) if settings.warmup_steps is None else settings.warmup_steps
        if step < rising:
            return self.lr * (step + 1) / rising
        progress = (step - rising) / max(1, steps - rising)
        return self.lr * (1 + math.cos(math.pi * progress)) / 2

    def uses_bf16(self, device: torch.device) -> bool:
        """Whether to run under bf16 autocast; weights, losses and the optimiser are fp32 in any case."""
        return self.settings.precision == "bf16" or (self.settings.precision == "auto" and device.type == "cuda")
