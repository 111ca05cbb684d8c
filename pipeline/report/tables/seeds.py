"""Pool several seeds: means and standard deviations over seeds, and tables of these."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from pipeline.errors import UserError
from pipeline.measurements import MEAN, select
from pipeline.report.tables.merging import COLUMNS as MERGING_COLUMNS
from pipeline.report.tables.merging import SUM
from pipeline.report.tables.results import difference_rows, paradigm_rows, titled_table

KEYS = ["model", "paradigm", "recipe", "method", "benchmark", "setting", "scope", "task", "other", "order", "metric"]
Row = tuple[str, ...]  # a value for each of KEYS


def pool(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return mean and standard deviation of every measurement over seeds.

    Differences between paradigms are measurements as well: each is between two models of one seed.

    Args:
        frames: tables of measurements, one per seed, all with the same rows in any order.

    Returns:
        one row per combination of :data:`KEYS`, in the first table's order, with ``mean``, ``std`` (of the sample:
        divided by n − 1; NaN for one seed) and ``seeds`` = n. Where a seed's value is NaN, both are NaN.

    Raises:
        UserError: there is no table, a table mixes seeds, two have the same seed, or one lacks a row that another has.
    """
    tables = _by_seed(frames)
    _check_rows(tables)
    rows = list(next(iter(tables.values())))
    values = pd.DataFrame([[table[row] for table in tables.values()] for row in rows])
    return pd.DataFrame(rows, columns=KEYS).assign(
        mean=values.mean(axis=1, skipna=False),
        std=values.std(axis=1, ddof=1, skipna=False),
        seeds=len(tables),
    )


def is_among(results: pd.DataFrame, frames: Sequence[pd.DataFrame]) -> bool:
    """Return whether the table is one of the collected ones.

    Otherwise they were collected for other parameters or code, and must not be shown beside it.
    """
    return any(frame.equals(results) for frame in frames)


def seeds_table(pooled: pd.DataFrame, model: str) -> pd.DataFrame:
    """Return pooled means over tasks of one model, one row per paradigm; cells are ``74.8 ± 0.3``, in percent.

    There is no zero-shot row: θ₀ is the same for all seeds.
    """
    of_model = select(pooled, model=model)
    rows = paradigm_rows(of_model, _cell, lambda alpha: _cell(alpha, scale=1.0, digits=2))
    return titled_table(rows, _title(of_model))


def seeds_comparison_table(pooled: pd.DataFrame, model: str) -> pd.DataFrame:
    """Return pooled differences from the first paradigm, one row per other paradigm; cells are ``+1.2 ± 0.3``."""
    of_model = select(pooled, model=model)
    rows = difference_rows(of_model, lambda row: _cell(row, sign="+"))
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = f"addition: difference, {_title(of_model)}"
    return table


def seeds_merging_table(pooled: pd.DataFrame, model: str) -> pd.DataFrame | None:
    """Return pooled means over tasks of the merging methods of one model, a row per paradigm and method.

    Cells are ``74.8 ± 0.3``; columns whose title ends with ``− sum`` hold the paired difference from the plain sum.
    ``None`` if they are not pooled.
    """
    means = select(pooled, model=model, benchmark="merging", scope=MEAN)
    rows = []
    for paradigm, method in means[["paradigm", "method"]].drop_duplicates().itertuples(index=False, name=None):
        own = select(means, paradigm=paradigm, method=method)
        row = {"paradigm": paradigm, "method": method}
        row["α"] = _cell(select(own, setting="tuned", metric="alpha"), scale=1.0, digits=2)
        for title, (setting, metric) in MERGING_COLUMNS.items():
            cells = select(own, setting=setting)
            row[title] = _cell(select(cells, metric=metric))
            if metric == "normalized":
                difference = select(cells, metric=f"{metric}_minus_{SUM}")
                row[f"{title}: − sum"] = _cell(difference, sign="+") if len(difference) else ""
        rows.append(row)
    return pd.DataFrame(rows) if rows else None


def _by_seed(frames: Sequence[pd.DataFrame]) -> dict[int, dict[Row, float]]:
    tables: dict[int, dict[Row, float]] = {}
    for frame in frames:
        seeds = frame["seed"].unique().tolist()
        if len(seeds) != 1:
            raise UserError(
                f"cannot pool a table of seeds {', '.join(map(str, seeds)) or '(none)'}; give one table per seed"
            )
        if seeds[0] in tables:
            raise UserError(f"two tables have seed {seeds[0]}; pool each seed once")
        tables[seeds[0]] = _values(frame, seeds[0])
    if not tables:
        raise UserError("no table to pool; `tauflow collect` gathers those of several seeds")
    return tables


def _values(frame: pd.DataFrame, seed: int) -> dict[Row, float]:
    values: dict[Row, float] = {}
    for *keys, value in frame[[*KEYS, "value"]].itertuples(index=False, name=None):
        row = tuple(map(str, keys))
        if row in values:
            raise UserError(f"seed {seed}: two rows for {_text(row)}; recreate its table with `dvc repro`")
        values[row] = value
    return values


def _check_rows(tables: Mapping[int, Mapping[Row, float]]) -> None:
    every = dict.fromkeys(row for table in tables.values() for row in table)
    for seed, table in tables.items():
        missing = [row for row in every if row not in table]
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise UserError(
                f"seed {seed}: no row for {_text(missing[0])}{more}, which another seed has; run that seed again"
            )


def _text(row: Row) -> str:
    return " ".join(part for part in row if part)


def _title(pooled: pd.DataFrame) -> str:
    n = max(pooled["seeds"].tolist(), default=0)
    return f"n = {n} seed{'' if n == 1 else 's'}"


def _cell(rows: pd.DataFrame, sign: str = "", scale: float = 100.0, digits: int = 1) -> str:
    """Format a mean as ``54.8 ± 0.3``, or as ``54.8`` for a single seed."""
    mean, std = (scale * float(rows.iloc[0][column]) for column in ("mean", "std"))
    spread = "" if math.isnan(std) else f" ± {std:.{digits}f}"
    return f"{mean:{sign}.{digits}f}{spread}"
