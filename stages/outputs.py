"""What the evaluation stages write: measurements, their means, MLflow metrics."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.files import write_json
from pipeline.measurements import MEAN, Measurement, summary, to_frame, write_frame
from tauflow.stage import Stage


def write_results(stage: Stage, table: Path, metrics: Path, rows: Sequence[Measurement]) -> None:
    """Write the measurements as CSV, their means as JSON, and log all of them but those of pairs."""
    write_frame(table, to_frame(rows))
    write_json(metrics, summary(rows))
    for row in (row for row in rows if "+" not in row.task):  # pairs are too many to be compared there
        setting = "" if row.setting == "none" else f".{row.setting}"
        stage.journal.metrics({f"{row.benchmark}{setting}.{row.metric}.{row.task}": row.value})
    for row in rows:
        if row.task == MEAN and row.ci_low is not None:
            print(
                f"{stage.name}: {row.benchmark} {row.setting} {row.metric} {row.value:.3f} "
                f"[{row.ci_low:.3f}, {row.ci_high:.3f}]"
            )
