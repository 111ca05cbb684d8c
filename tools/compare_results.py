"""Compare a table of results with the committed one: which numbers moved, and which left their intervals.

    .venv/bin/python -m tools.compare_results COMMITTED.csv NEW.csv

A number with a committed interval must stay in it. One without (a chosen α, a cosine, an area) may move, and is
reported: what a moved α does to accuracy shows in numbers that have intervals. Rows that are gone or new count as
outside. Prints Markdown; exit code 0: all inside, 1: not all, 2: the tables cannot be compared.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import typer

from pipeline.errors import UserError
from pipeline.measurements import COLUMNS, read_measurements, select

KEY = COLUMNS[: COLUMNS.index("value")]
# Verdicts; FAILING ones make the exit code 1.
SAME, INSIDE, MOVED, OUTSIDE, GONE, NEW = "the same", "inside", "moved, no interval", "outside", "gone", "new"
FAILING = (OUTSIDE, GONE, NEW)
# Rows that are printed of each verdict; a table of thousands would exceed what a job summary may hold.
SHOWN = 40


def judge(committed: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Every row of either table with both values, the committed interval and a ``verdict``.

    Raises:
        UserError: one of the tables has two rows of the same name.
    """
    try:
        both = committed.merge(
            new[[*KEY, "value"]], "outer", on=KEY, suffixes=("", "_new"), indicator="found", validate="one_to_one"
        )
    except pd.errors.MergeError:
        raise UserError("two rows of one table have the same name; make it again with `dvc repro report`") from None
    has_interval = both["ci_low"].notna()
    inside = both["value_new"].between(both["ci_low"].fillna(-np.inf), both["ci_high"].fillna(np.inf))
    conditions = [
        both["found"] == "left_only",
        both["found"] == "right_only",
        (both["value"] == both["value_new"]) | (both["value"].isna() & both["value_new"].isna()),
        ~inside,
        has_interval,
    ]
    both["verdict"] = np.select(conditions, [GONE, NEW, SAME, OUTSIDE, INSIDE], MOVED)
    return both


def passes(verdicts: Iterable[str]) -> bool:
    """Whether nothing failed."""
    return not set(verdicts) & set(FAILING)


def markdown(judged: pd.DataFrame) -> str:
    """Counts of the verdicts, then the rows that did not stay the same, those that failed first."""
    counts = judged["verdict"].value_counts()
    lines = [f"**{len(judged)} numbers**: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items())]
    for verdict in (*FAILING, MOVED, INSIDE):
        rows = select(judged, verdict=verdict)
        if rows.empty:
            continue
        rest = f", {SHOWN} of {len(rows)}" if len(rows) > SHOWN else ""
        lines += ["", f"### {verdict[0].upper()}{verdict[1:]}{rest}", ""]
        lines += table(["number", "committed", "interval", "new"], _cells(rows.head(SHOWN)))
    return "\n".join(lines)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a Markdown table."""
    for cells in (titles, ["---"] * len(titles), *rows):
        yield f"| {' | '.join(cells)} |"


def number(value: float | None) -> str:
    """With six decimals at most, as tables and metrics have them; nothing if there is none."""
    return "" if value is None or pd.isna(value) else f"{value:.6f}".rstrip("0").rstrip(".")


def interval(low: float | None, high: float | None) -> str:
    """``[low, high]``; nothing if there is none."""
    return "" if low is None or pd.isna(low) else f"[{number(low)}, {number(high)}]"


def _cells(rows: pd.DataFrame) -> Iterator[list[str]]:
    for row in rows.to_dict("records"):
        name = " ".join(str(row[column]) for column in KEY if row[column] != "none")
        yield [name, number(row["value"]), interval(row["ci_low"], row["ci_high"]), number(row["value_new"])]


def main(committed: Path, new: Path) -> None:
    """Compare NEW with COMMITTED; exit code 1 if a number left its interval."""
    try:
        judged = judge(read_measurements(committed), read_measurements(new))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    print(markdown(judged))
    raise typer.Exit(0 if passes(judged["verdict"]) else 1)


if __name__ == "__main__":
    typer.run(main)
