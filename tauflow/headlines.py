"""The few numbers by which paradigms are compared in MLflow, under names that a chart can be read by."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from pipeline.measurements import MEAN, select
from pipeline.report.tables import COLUMNS, HEADLINES

# MLflow draws the metrics of a prefix as one section, in the order of the names: intervals come last.
_ACCURACY, _INTERVAL = "accuracy", "interval"


def paradigm_headlines(results: pd.DataFrame, models: Sequence[str]) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Means over tasks, their interval ends and α, of every paradigm of every model: the names of `dvc exp show`.

    Args:
        results: all measurements.
        models: those to describe.

    Yields:
        The model, the paradigm, and its metrics by name (docs/tracking.md).
    """
    for model in models:
        means = select(results, model=model, task=MEAN)
        for paradigm in dict.fromkeys(select(means, benchmark="single_task")["paradigm"]):
            yield model, str(paradigm), _metrics(select(means, paradigm=paradigm))


def _metrics(means: pd.DataFrame) -> dict[str, float]:
    numbers = {name: COLUMNS[title] for name, title in HEADLINES.items()}
    numbers["zero_shot"] = ("zero_shot", "none", "accuracy")
    rows = {name: _row(means, *where) for name, where in numbers.items()}
    metrics = {f"{_ACCURACY}/{name}": float(row["value"]) for name, row in rows.items()}
    metrics["coefficient/alpha"] = float(_row(means, "addition", "tuned", "alpha")["value"])
    for name, row in rows.items():
        metrics[f"{_INTERVAL}/{name}_low"] = float(row["ci_low"])
        metrics[f"{_INTERVAL}/{name}_high"] = float(row["ci_high"])
    return metrics


def _row(means: pd.DataFrame, benchmark: str, setting: str, metric: str) -> Any:
    return select(means, benchmark=benchmark, setting=setting, metric=metric).iloc[0]
