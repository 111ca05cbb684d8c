"""Fine-tuning an image encoder on one task, head frozen: the loop, from top to bottom."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from pipeline.config import FinetuneSettings
from pipeline.errors import UserError
from pipeline.models.heads import Head
from pipeline.paradigms import TrainableEncoder
from pipeline.progress import progress
from pipeline.tasks import LabelledImages
from pipeline.training.augmentation import random_crops


@dataclass(frozen=True)
class StepRecord:
    """What one step did: ``accuracy`` on its mini-batch, ``grad_norm`` before clipping."""

    step: int
    epoch: int
    loss: float
    accuracy: float
    lr: float
    grad_norm: float


def finetune(
    encoder: TrainableEncoder,
    head: Head,
    train: LabelledImages,
    settings: FinetuneSettings,
    epochs: int,
    seed: int,
    device: torch.device,
    on_step: Callable[[StepRecord], None],
) -> dict[str, Tensor]:
    """Train the encoder's parameters in place: AdamW, warm-up and cosine, gradient clipping.

    Args:
        encoder: starts at θ₀, on ``device``.
        head: the task's frozen classifier.
        train: the split to learn.
        settings: the suite's hyper-parameters.
        epochs: passes over ``train``.
        seed: fixes the order of the images and the augmentation, each as a function of (seed, step) alone.
        device: where to train.
        on_step: called after every step.

    Returns:
        The trained tensors θ by parameter name, on the CPU.

    Raises:
        UserError: the loss or a weight is no number any more.
    """
    head = head.to(device)
    parameters = encoder.parameters
    optimizer = torch.optim.AdamW(parameters.values(), lr=settings.lr, weight_decay=settings.weight_decay)
    images, labels = torch.from_numpy(train.images), torch.from_numpy(train.labels)
    batch_size = min(settings.batch_size, len(train))
    steps = epochs * (len(train) // batch_size)

    batches = _batches(len(train), batch_size, epochs, seed)
    for step, (epoch, batch) in enumerate(progress(batches, "fine-tuning", steps)):
        lr = learning_rate(step, steps, settings)
        for group in optimizer.param_groups:
            group["lr"] = lr
        augmented = random_crops(images[batch], settings.crop_padding, np.random.default_rng([seed, 1, step]))
        logits, targets = head.logits(encoder(augmented.to(device))), labels[batch].to(device)
        loss = nn.functional.cross_entropy(logits, targets)
        if not torch.isfinite(loss):
            raise UserError(
                f"loss is {loss.item()} at step {step} of {steps} (lr {lr:.3g}); lower finetune.lr in params.yaml"
            )
        optimizer.zero_grad()
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(parameters.values(), settings.max_grad_norm)
        optimizer.step()
        accuracy = (logits.argmax(dim=1) == targets).float().mean()
        on_step(StepRecord(step, epoch, loss.item(), accuracy.item(), lr, grad_norm.item()))

    trained = {name: parameter.detach().cpu() for name, parameter in parameters.items()}
    if not all(tensor.isfinite().all() for tensor in trained.values()):
        where = f"after the last of {steps} steps"
        raise UserError(f"weights are NaN or infinite {where}; lower finetune.lr in params.yaml")
    return trained


def learning_rate(step: int, steps: int, settings: FinetuneSettings) -> float:
    """Linear warm-up over the first share ``settings.warmup`` of the steps, then a cosine to 0."""
    warmup = round(settings.warmup * steps)
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return settings.lr * (1 + math.cos(math.pi * progress)) / 2


def _batches(size: int, batch_size: int, epochs: int, seed: int) -> Iterator[tuple[int, Int64[Tensor, " batch"]]]:
    """``(epoch, indices)`` of full batches, in an order fixed by the seed and the epoch."""
    for epoch in range(epochs):
        order = torch.from_numpy(np.random.default_rng([seed, 0, epoch]).permutation(size))
        for batch in order.split(batch_size):
            if len(batch) == batch_size:
                yield epoch, batch
