"""What a step minimises: the task's cross-entropy, and a regulariser's penalty."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from pipeline.models.heads import Head
from pipeline.paradigms import TrainableEncoder
from pipeline.training.batches import Batch
from pipeline.training.plan import Plan
from pipeline.training.processes import Processes
from pipeline.training.regularisers import regulariser


class Objective:
    """Cross-entropy + λ · mean penalty, in parts that each go backward: one graph is in memory at a time.

    Means are over the global batch, whatever its division among processes and micro-batches. Every method returns
    this process's share of its mean.
    """

    def __init__(
        self, encoder: TrainableEncoder, head: Head, plan: Plan, device: torch.device, processes: Processes
    ) -> None:
        """
        Raises:
            UserError: the plan's regulariser is unknown.
        """
        self.encoder, self.plan, self.device, self.processes = encoder, plan, device, processes
        self.head = head.to(device)
        self.replica = processes.replicate(encoder)
        self.penalty = regulariser.find(plan.regulariser.name) if plan.regulariser else None

    def penalise(self, batches: Sequence[Batch | None]) -> float:
        """Add the gradient of λ times the mean penalty over batches of other tasks, or over none (``None``).

        To be called before :meth:`learn`, whose last backward pass averages all gradients over the processes.
        """
        if self.penalty is None or self.plan.regulariser is None:
            return 0.0
        total = 0.0
        for batch in batches:
            # A penalty that sees no images is the same in every process.
            share = None if batch is None else self.processes.share(batch)
            if share is not None and len(share) == 0:
                continue
            parts = len(batches) * (self.processes.count if batch is None else len(batch))
            with self.processes.alone(self.replica):
                with self._mixed_precision():
                    images = None if share is None else share.to(self.device)
                    mean = self.penalty(self.encoder, images, self.plan.regulariser.options) / parts
                (self.plan.regulariser.weight * mean * self.processes.count).backward()
            total += mean.item()
        return total

    def learn(self, images: Batch, labels: Int64[Tensor, " n"]) -> tuple[float, float]:
        """Add the gradient of the mean cross-entropy; returns the loss and the accuracy."""
        loss, accuracy = 0.0, 0.0
        shares = [self.processes.share(tensor).chunk(self.plan.settings.accumulation) for tensor in (images, labels)]
        micro_batches = list(zip(*shares, strict=True))
        for position, (x, y) in enumerate(micro_batches, start=1):
            last = position == len(micro_batches)
            share, correct = self._learn(x.to(self.device), y.to(self.device), len(labels), last)
            loss += share
            accuracy += correct / len(labels)
        return loss, accuracy

    def _learn(self, images: Tensor, labels: Tensor, batch_size: int, last: bool) -> tuple[float, int]:
        with nullcontext() if last else self.processes.alone(self.replica):
            with self._mixed_precision():
                embeddings = self.replica(images)
            logits = self.head.logits(embeddings.float())
            loss = nn.functional.cross_entropy(logits, labels, reduction="sum") / batch_size
            (loss * self.processes.count).backward()
        return loss.item(), int((logits.argmax(dim=1) == labels).sum())

    def _mixed_precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.uses_bf16(self.device))
