"""What every step did, and training curves as CSV files that ``dvc plots`` reads."""

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path

import torch
from jaxtyping import Float64
from torch import Tensor

from pipeline.files import write_text


@dataclass(frozen=True)
class StepRecord:
    """What one step did.

    loss, accuracy: on the step's mini-batch; the loss without the penalty.
    penalty: of the regulariser, before its weight λ; 0 without one.
    grad_norm: before clipping.
    """

    step: int
    epoch: int
    loss: float
    penalty: float
    accuracy: float
    lr: float
    grad_norm: float


@dataclass
class Readings:
    """Numbers of steps that are still on the device: reading them waits until it has computed them.

    ``at_once``: how many steps are read together; a GPU that is waited for in every step stands still.
    """

    at_once: int
    waiting: list[tuple[int, int, float, Float64[Tensor, " 4"]]] = field(default_factory=list)

    def add(self, step: int, epoch: int, lr: float, numbers: Float64[Tensor, " 4"]) -> None:
        """``numbers`` are loss, accuracy, penalty and gradient norm."""
        self.waiting.append((step, epoch, lr, numbers))

    @property
    def due(self) -> bool:
        """Whether there are as many as are read together."""
        return len(self.waiting) >= self.at_once

    def read(self) -> list[StepRecord]:
        """The records of all steps that were added since the last call."""
        if not self.waiting:
            return []
        rows = torch.stack([numbers for *_, numbers in self.waiting]).tolist()
        records = [
            StepRecord(step, epoch, loss, penalty, accuracy, lr, grad_norm)
            for (step, epoch, lr, _), (loss, accuracy, penalty, grad_norm) in zip(self.waiting, rows, strict=True)
        ]
        self.waiting.clear()
        return records


def write_curve(path: Path, records: Sequence[StepRecord]) -> None:
    """One row per step: step, epoch, loss, penalty, accuracy, lr, grad_norm."""
    rows = [[value if isinstance(value, int) else f"{value:.6g}" for value in astuple(record)] for record in records]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([[field.name for field in fields(StepRecord)], *rows])
    write_text(path, text.getvalue())
