"""Several seeds pooled: means and standard deviations over them, and the tables that show these."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from pipeline.errors import UserError
from pipeline.measurements import select
from pipeline.report.tables import difference_rows, paradigm_rows, titled_table

KEYS = ["model", "paradigm", "benchmark", "setting", "task", "metric"]
Row = tuple[str, ...]  # a value of each


def pool(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean and standard deviation of every measurement over seeds.

    Differences between paradigms are measurements too: they are pooled as they are, each of two models of one seed.

    Args:
        frames: tables of measurements, each of one seed, all with the same rows in any order.

    Returns:
        one row per model, paradigm, benchmark, setting, task and metric, in the first table's order, with ``mean``,
        ``std`` (of the sample: divided by n − 1; NaN for one seed) and ``seeds`` = n. Where a seed's value is NaN, so
        are both.

    Raises:
        UserError: there is no table, one is not of one seed, two are of the same, or one lacks rows of another.
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
    """Whether this very table is one of the collected ones.

    If it is not, they were collected for other parameters or other code, and are nothing to show beside it.
    """
    return any(frame.equals(results) for frame in frames)


def seeds_table(pooled: pd.DataFrame, model: str) -> pd.DataFrame:
    """Pooled means over tasks of one model, one row per paradigm; cells are ``74.8 ± 0.3``, in percent.

    There is no zero-shot row: θ₀ is the same for all seeds.
    """
    of_model = select(pooled, model=model)
    rows = paradigm_rows(of_model, _cell, lambda alpha: _cell(alpha, scale=1.0, digits=2))
    return titled_table(rows, _title(of_model))


def seeds_comparison_table(pooled: pd.DataFrame, model: str) -> pd.DataFrame:
    """Pooled differences of the means over tasks, one row per paradigm but the first; cells are ``+1.2 ± 0.3``."""
    of_model = select(pooled, model=model)
    rows = difference_rows(of_model, lambda found: _cell(found, sign="+"))
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = f"addition: difference, {_title(of_model)}"
    return table


def _by_seed(frames: Sequence[pd.DataFrame]) -> dict[int, dict[Row, float]]:
    tables: dict[int, dict[Row, float]] = {}
    for frame in frames:
        seeds = frame["seed"].unique().tolist()
        if len(seeds) != 1:
            raise UserError(f"a table to pool must be of one seed, not of {seeds}")
        if seeds[0] in tables:
            raise UserError(f"seed {seeds[0]}: there are two tables of it; pool each seed once")
        tables[seeds[0]] = _values(frame, seeds[0])
    if not tables:
        raise UserError("there is no table to pool; `tauflow collect` gathers those of several seeds")
    return tables


def _values(frame: pd.DataFrame, seed: int) -> dict[Row, float]:
    values: dict[Row, float] = {}
    for *row, value in frame[[*KEYS, "value"]].itertuples(index=False, name=None):
        if tuple(row) in values:
            raise UserError(f"seed {seed}: two values of {' '.join(row)}; make its table again with `dvc repro`")
        values[tuple(row)] = value
    return values


def _check_rows(tables: Mapping[int, Mapping[Row, float]]) -> None:
    every = dict.fromkeys(row for table in tables.values() for row in table)
    for seed, table in tables.items():
        missing = [row for row in every if row not in table]
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise UserError(f"seed {seed}: no {' '.join(missing[0])}{more}, which another seed has; run it again")


def _title(pooled: pd.DataFrame) -> str:
    n = max(pooled["seeds"].tolist(), default=0)
    return f"n = {n} seed{'' if n == 1 else 's'}"


def _cell(rows: pd.DataFrame, sign: str = "", scale: float = 100.0, digits: int = 1) -> str:
    """``54.8 ± 0.3``; of one seed, ``54.8``."""
    mean, std = (scale * float(rows.iloc[0][column]) for column in ("mean", "std"))
    spread = "" if math.isnan(std) else f" ± {std:.{digits}f}"
    return f"{mean:{sign}.{digits}f}{spread}"
