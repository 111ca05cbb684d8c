"""Training curves as CSV files that ``dvc plots`` reads."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from pipeline.files import write_text
from pipeline.training.loop import StepRecord


def write_curve(path: Path, records: Sequence[StepRecord]) -> None:
    """One row per step: step, epoch, loss, accuracy, lr, grad_norm."""
    frame = pd.DataFrame([asdict(record) for record in records])
    write_text(path, frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
