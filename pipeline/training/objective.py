"""The objective of a step: the task's cross-entropy and a regulariser's penalty, with their gradients."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from pipeline.models.heads import Head
from pipeline.paradigms import TrainableEncoder
from pipeline.training.curve import Losses, Number
from pipeline.training.feed import Batch, StepData
from pipeline.training.plan import Plan
from pipeline.training.processes import Processes
from pipeline.training.regularisers import regulariser


class Objective:
    """Cross-entropy + λ · mean penalty, with a backward pass per part, so that only one graph is in memory at a time.

    Means are over the global batch, regardless of its division among processes and micro-batches. Numbers stay on the
    device: nothing here waits for a GPU.
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

    def backward(self, step: StepData) -> Losses:
        """Add the gradient of the objective to the trained parameters, the same in every process."""
        # The penalty goes first: the last backward pass of the cross-entropy averages all gradients over processes.
        penalty = self._penalise(step.others)
        loss, accuracy = self._learn(step.own)
        loss, penalty, accuracy = self.processes.total(torch.stack([loss, penalty, accuracy]))
        return Losses(loss=loss, penalty=penalty, accuracy=accuracy)

    def _penalise(self, others: Sequence[Batch]) -> Number:
        """Add the gradient of λ times the mean penalty; return this process's share of the mean."""
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

    def _learn(self, batch: Batch) -> tuple[Number, Number]:
        """Add the gradient of the mean cross-entropy; return this process's shares of loss and accuracy."""
        assert batch.labels is not None
        loss, accuracy = self._zero(), self._zero()
        if len(batch.images) == 0:
            self._join_backward(batch)
            return loss, accuracy
        micro_batches = [tensor.chunk(self.plan.settings.accumulation) for tensor in (batch.images, batch.labels)]
        pairs = list(zip(*micro_batches, strict=True))
        for position, (images, labels) in enumerate(pairs, start=1):
            share, correct = self._learn_part(images, labels, batch.whole, last=position == len(pairs))
            loss += share
            accuracy += correct.double() / batch.whole
        return loss, accuracy

    def _learn_part(self, images: Tensor, labels: Tensor, batch_size: int, last: bool) -> tuple[Tensor, Tensor]:
        with nullcontext() if last else self.processes.alone(self.replica):
            with self._mixed_precision():
                embeddings = self.replica(images)
            logits = self.head.logits(embeddings.float())
            loss = nn.functional.cross_entropy(logits, labels, reduction="sum") / batch_size
            (loss * self.processes.count).backward()
        return loss.detach(), (logits.argmax(dim=1) == labels).sum()

    def _join_backward(self, batch: Batch) -> None:
        """Take part in averaging gradients with a gradient of zero, if this process has no image of the batch."""
        with self._mixed_precision():
            embeddings = self.replica(batch.images.new_zeros(1, *batch.images.shape[1:]))
        (0 * embeddings.float().sum()).backward()

    def _mixed_precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.uses_bf16(self.device))

    def _zero(self) -> Number:
        """Return a float64 zero on the device (matches Python's float accumulation)."""
        return torch.zeros((), dtype=torch.float64, device=self.device)
