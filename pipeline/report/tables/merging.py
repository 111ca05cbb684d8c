"""The table of merging methods: a row per paradigm and method, with paired differences from the plain sum."""

from collections.abc import Hashable, Mapping

import pandas as pd

from pipeline.measurements import MEAN, select
from pipeline.report.tables.formats import Marked, percent
from pipeline.report.tables.results import indistinguishable

SUM = "sum"
# Column title → setting, metric.
COLUMNS = {
    "tuned α": ("tuned", "accuracy"),
    "normalised": ("tuned", "normalized"),
    "α = 1": ("alpha_1", "accuracy"),
    "normalised, α = 1": ("alpha_1", "normalized"),
}


def merging_table(
    results: pd.DataFrame, model: str, methods: Mapping[str, pd.DataFrame]
) -> tuple[pd.DataFrame, Marked]:
    """Return the table, cells being text, and the cells to be set bold.

    Bold are the best method of a paradigm in a column, and those that cannot be distinguished from it.

    Args:
        results: measurements.
        model: whose.
        methods: by paradigm, a frame with the columns ``method``, ``sees`` and ``largest``.
    """
    means = select(results, model=model, benchmark="merging", scope=MEAN)
    alphas = select(means, metric="alpha").set_index(["paradigm", "method"])["value"]
    rows: list[dict[str, str]] = []
    marked: dict[Hashable, set[int]] = {title: set() for title in COLUMNS}
    for paradigm, described in methods.items():
        own = select(means, paradigm=paradigm)
        best = {
            title: indistinguishable(select(own, setting=setting), metric, "method")
            for title, (setting, metric) in COLUMNS.items()
        }
        for method, sees, largest in described[["method", "sees", "largest"]].itertuples(index=False, name=None):
            for title, names in best.items():
                marked[title] |= {len(rows)} if method in names else set()
            alpha = float(alphas.loc[(paradigm, method)])
            end = " (end of the grid)" if alpha >= largest else ""
            row = {"paradigm": paradigm, "method": method, "sees": sees, "α": f"{alpha:g}{end}"}
            rows.append(row | _cells(select(own, method=method)))
    return pd.DataFrame(rows), marked


def _cells(means: pd.DataFrame) -> dict[str, str]:
    cells = {}
    for title, (setting, metric) in COLUMNS.items():
        found = select(means, setting=setting)
        cells[title] = percent(select(found, metric=metric))
        if metric == "normalized":
            difference = select(found, metric=f"{metric}_minus_{SUM}")
            cells[f"{title}: − sum"] = percent(difference, signed=True) if len(difference) else ""
    return cells
