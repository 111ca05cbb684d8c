"""Records of training steps, and training curves as CSV files that ``dvc plots`` reads."""

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path

import torch
from jaxtyping import Float64
from torch import Tensor

from pipeline.io.files import write_text

Number = Float64[Tensor, ""]


@dataclass(frozen=True)
class StepRecord:
    """The numbers of one step.

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


@dataclass(frozen=True)
class Losses:
    """Means over the global batch of a step, still on the device, because reading them would synchronise.

    loss, accuracy: on the task's images; the loss without the penalty.
    penalty: of the regulariser, before its weight λ; 0 without one.
    """

    loss: Number
    penalty: Number
    accuracy: Number


@dataclass
class PendingRecords:
    """Records whose numbers are still on the device, to be read together.

    Waiting for a GPU in every step would leave it idle; ``size`` is the number of steps that are read at once.
    """

    size: int
    _steps: list[tuple[int, int, float]] = field(default_factory=list)
    _numbers: list[dict[str, Number]] = field(default_factory=list)

    def add(self, step: int, epoch: int, lr: float, losses: Losses, grad_norm: Tensor) -> None:
        """Add a step."""
        self._steps.append((step, epoch, lr))
        self._numbers.append({**vars(losses), "grad_norm": grad_norm.double()})

    @property
    def is_full(self) -> bool:
        """Return whether ``size`` steps are pending."""
        return len(self._steps) >= self.size

    def read(self) -> list[StepRecord]:
        """Wait for the device; return the pending records and clear them."""
        if not self._steps:
            return []
        rows = torch.stack([torch.stack(list(numbers.values())) for numbers in self._numbers]).tolist()
        records = [
            StepRecord(step=step, epoch=epoch, lr=lr, **dict(zip(numbers, row, strict=True)))
            for (step, epoch, lr), numbers, row in zip(self._steps, self._numbers, rows, strict=True)
        ]
        self._steps.clear()
        self._numbers.clear()
        return records


def write_curve(path: Path, records: Sequence[StepRecord]) -> None:
    """Write one row per step: step, epoch, loss, penalty, accuracy, lr, grad_norm."""
    rows = [[value if isinstance(value, int) else f"{value:.6g}" for value in astuple(record)] for record in records]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([[field.name for field in fields(StepRecord)], *rows])
    write_text(path, text.getvalue())
