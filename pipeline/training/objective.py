"""What a step minimises: the task's cross-entropy, and a regulariser's penalty."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from pipeline.models.heads import Head
from pipeline.paradigms import TrainableEncoder
from pipeline.training.feed import Batch
from pipeline.training.plan import Plan
from pipeline.training.processes import Processes
from pipeline.training.regularisers import regulariser

Number = Float64[Tensor, ""]


class Objective:
    """Cross-entropy + λ · mean penalty, in parts that each go backward: one graph is in memory at a time.

    Means are over the global batch, whatever its division among processes and micro-batches. Every method returns
    this process's share of its mean, as a number on the device: nothing here waits for a GPU.
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

    def penalise(self, others: Sequence[Batch]) -> Number:
        """Add the gradient of λ times the mean penalty over batches of other tasks, if the regulariser sees any.

        To be called before :meth:`learn`, whose last backward pass averages all gradients over the processes.
        """
        total = self._zero()
        if self.penalty is None or self.plan.regulariser is None:
            return total
        # A penalty that sees no images is the same in every process.
        batches = [None] if self.plan.regulariser.others is None else others
        for batch in batches:
            if batch is not None and len(batch.images) == 0:
                continue
            parts = len(batches) * (self.processes.count if batch is None else batch.whole)
            with self.processes.alone(self.replica):
                with self._mixed_precision():
                    images = None if batch is None else batch.images
                    mean = self.penalty(self.encoder, images, self.plan.regulariser.options) / parts
                (self.plan.regulariser.weight * mean * self.processes.count).backward()
            total += mean.detach()
        return total

    def learn(self, batch: Batch) -> tuple[Number, Number]:
        """Add the gradient of the mean cross-entropy; returns the loss and the accuracy."""
        assert batch.labels is not None
        loss, accuracy = self._zero(), self._zero()
        micro_batches = [tensor.chunk(self.plan.settings.accumulation) for tensor in (batch.images, batch.labels)]
        pairs = list(zip(*micro_batches, strict=True))
        for position, (images, labels) in enumerate(pairs, start=1):
            share, correct = self._learn(images, labels, batch.whole, last=position == len(pairs))
            loss += share
            accuracy += correct.double() / batch.whole
        return loss, accuracy

    def _learn(self, images: Tensor, labels: Tensor, batch_size: int, last: bool) -> tuple[Tensor, Tensor]:
        with nullcontext() if last else self.processes.alone(self.replica):
            with self._mixed_precision():
                embeddings = self.replica(images)
            logits = self.head.logits(embeddings.float())
            loss = nn.functional.cross_entropy(logits, labels, reduction="sum") / batch_size
            (loss * self.processes.count).backward()
        return loss.detach(), (logits.argmax(dim=1) == labels).sum()

    def _mixed_precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.uses_bf16(self.device))

    def _zero(self) -> Number:
        """Sums are in float64, as those of Python's numbers."""
        return torch.zeros((), dtype=torch.float64, device=self.device)
