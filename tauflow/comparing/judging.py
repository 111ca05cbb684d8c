"""Judge a table of results against the committed one: which numbers moved, and which moved too far.

A number with a committed interval must stay in it. Intervals hold the chosen α fixed, so a number that leaves its
interval because the search chose another α is reported as a moved choice and does not fail. A number without an
interval (a cosine, an area) may move, and is reported. Missing or new rows fail.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import UserError
from pipeline.measurements import COLUMNS, MEAN, select

KEY = COLUMNS[: COLUMNS.index("value")]
CHOICE = "alpha"  # the metric of a chosen coefficient

SAME, INSIDE, MOVED = "the same", "inside", "moved, no interval"
CHOSEN, FOLLOWS = "another choice of α", "outside, at another α"
OUTSIDE, GONE, NEW = "outside", "gone", "new"
FAILING = (OUTSIDE, GONE, NEW)
# Maximum number of rows listed per verdict: a job summary cannot hold a table of thousands.
SHOWN = 40


def judge(committed: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Return every row of either table with both values, the committed interval and a ``verdict``.

    Raises:
        UserError: a table has two rows of the same name.
    """
    try:
        both = committed.merge(
            new[[*KEY, "value"]], "outer", on=KEY, suffixes=("", "_new"), indicator="found", validate="one_to_one"
        )
    except pd.errors.MergeError:
        raise UserError("two rows of one table have the same name; make it again with `dvc repro report`") from None
    has_interval = both["ci_low"].notna()
    inside = both["value_new"].between(both["ci_low"].fillna(-np.inf), both["ci_high"].fillna(np.inf))
    conditions = {
        GONE: both["found"] == "left_only",
        NEW: both["found"] == "right_only",
        SAME: (both["value"] == both["value_new"]) | (both["value"].isna() & both["value_new"].isna()),
        OUTSIDE: ~inside,
        INSIDE: has_interval,
        CHOSEN: both["metric"] == CHOICE,
    }
    both["verdict"] = np.select(list(conditions.values()), list(conditions), MOVED)
    choices = select(both, verdict=CHOSEN).to_dict("records")
    excused = [
        row["verdict"] == OUTSIDE and any(_depends(row, choice) for choice in choices)
        for row in both.to_dict("records")
    ]
    both.loc[excused, "verdict"] = FOLLOWS
    return both


def passes(verdicts: Iterable[str]) -> bool:
    """Return whether none of the verdicts is a failure."""
    return not set(verdicts) & set(FAILING)


def sentence(judged: pd.DataFrame) -> str:
    """Return the counts of the verdicts in one line, such as ``684 numbers: 649 the same, 35 inside``."""
    counts = judged["verdict"].value_counts()
    return f"{len(judged)} numbers: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items())


def markdown(judged: pd.DataFrame) -> str:
    """Return the counts of the verdicts, then the rows that changed, those that failed first."""
    lines = [f"**{len(judged)} numbers**" + sentence(judged).partition(" numbers")[2]]
    for verdict in (*FAILING, FOLLOWS, CHOSEN, MOVED, INSIDE):
        rows = select(judged, verdict=verdict)
        if rows.empty:
            continue
        rest = f", {SHOWN} of {len(rows)}" if len(rows) > SHOWN else ""
        lines += ["", f"### {verdict[0].upper()}{verdict[1:]}{rest}", ""]
        lines += markdown_table(["number", "committed", "interval", "new"], _cells(rows.head(SHOWN)))
    return "\n".join(lines)


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    for cells in (titles, ["---"] * len(titles), *rows):
        yield f"| {' | '.join(cells)} |"


def number(value: float | None) -> str:
    """Format a number with at most six decimals, as in tables and metrics; empty if there is none."""
    return "" if value is None or pd.isna(value) else f"{value:.6f}".rstrip("0").rstrip(".")


def interval(low: float | None, high: float | None) -> str:
    """Format an interval as ``[low, high]``; empty if there is none."""
    return "" if low is None or pd.isna(low) else f"[{number(low)}, {number(high)}]"


def name(row: Mapping[Any, Any]) -> str:
    """Return the name of a row: ``mini-clip ntk addition tuned mean accuracy``."""
    return " ".join(str(row[column]) for column in KEY[1:] if row[column] not in ("none", ""))


def _depends(row: Mapping[Any, Any], choice: Mapping[Any, Any]) -> bool:
    """Return whether a number is that of an edit that uses the chosen coefficient."""
    # A difference is between two paradigms, or between two merging methods of one.
    axis = "method" if row["method"] else "paradigm"
    compared = (row[axis], str(row["metric"]).partition("_minus_")[2])
    # One α for the sum of all task vectors, or one each for the parts of one sum; negation has an edit per task.
    same_edit = choice["benchmark"] in ("addition", "merging") or row["scope"] == MEAN or row["task"] == choice["task"]
    columns = ("model", "seed", "benchmark", "setting", *(("paradigm",) if axis == "method" else ()))
    same = all(row[column] == choice[column] for column in columns)
    return same and same_edit and choice[axis] in compared


def _cells(rows: pd.DataFrame) -> Iterator[list[str]]:
    for row in rows.to_dict("records"):
        yield [name(row), number(row["value"]), interval(row["ci_low"], row["ci_high"]), number(row["value_new"])]
