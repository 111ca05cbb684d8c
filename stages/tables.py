"""What the summary and the report read: the tables of measurements that are no analyses."""

import pandas as pd

from pipeline.measurements import read_measurements
from tauflow import layout


def read_tables(models: list[str], paradigms: list[str]) -> list[pd.DataFrame]:
    """Single-task accuracy, addition and negation of every paradigm, and their differences.

    Raises:
        UserError: a table is missing, or has other columns.
    """
    tables = [
        read_measurements(layout.measurements(model, paradigm) / f"{benchmark}.csv")
        for model in models
        for paradigm in paradigms
        for benchmark in ("single_task", "addition", "negation")
    ]
    return tables + [read_measurements(layout.comparison(model)) for model in models]
