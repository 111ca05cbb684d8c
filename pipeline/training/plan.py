"""The inputs of a fine-tuning: its data, and everything else that determines the result."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from pipeline.config import FinetuneSettings, RegulariserSettings
from pipeline.images import LabelledImages
from pipeline.images.images import Images
from pipeline.models.heads import Head


@dataclass(frozen=True)
class TrainingData:
    """The training split, the task's frozen head, and other tasks' unlabelled images for a regulariser."""

    train: LabelledImages
    head: Head
    others: Mapping[str, Images] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Everything but the data that determines the result of a fine-tuning.

    settings: hyper-parameters shared by all tasks and recipes.
    lr: peak learning rate.
    epochs: passes over the training images; need not be a whole number.
    seed: determines the order of the images and the augmentation, each a function of (seed, step) alone.
    regulariser: the recipe's regulariser, if any.
    steps: number of steps; overrides ``epochs``.
    """

    settings: FinetuneSettings
    lr: float
    epochs: float
    seed: int
    regulariser: RegulariserSettings | None = None
    steps: int | None = None

    def count_steps(self, per_epoch: int) -> int:
        """Return the number of training steps, given the steps per epoch (at least 1)."""
        return max(1, round(self.epochs * per_epoch) if self.steps is None else self.steps)

    def learning_rate(self, step: int, steps: int) -> float:
        """Return the learning rate: linear warm-up, then a cosine to 0.

        Warm-up takes ``warmup_steps``, or the share ``warmup`` of the steps.
        """
        settings = self.settings
        warmup = round(settings.warmup * steps) if settings.warmup_steps is None else settings.warmup_steps
        if step < warmup:
            return self.lr * (step + 1) / warmup
        share = (step - warmup) / max(1, steps - warmup)
        return self.lr * (1 + math.cos(math.pi * share)) / 2

    def uses_bf16(self, device: torch.device) -> bool:
        """Return whether to run under bf16 autocast; weights, losses and the optimiser are always fp32."""
        return self.settings.precision == "bf16" or (self.settings.precision == "auto" and device.type == "cuda")
