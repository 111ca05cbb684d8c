"""What every step did, and training curves as CSV files that ``dvc plots`` reads."""

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

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


def write_curve(path: Path, records: Sequence[StepRecord]) -> None:
    """One row per step: step, epoch, loss, penalty, accuracy, lr, grad_norm."""
    rows = [[value if isinstance(value, int) else f"{value:.6g}" for value in astuple(record)] for record in records]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([[field.name for field in fields(StepRecord)], *rows])
    write_text(path, text.getvalue())
