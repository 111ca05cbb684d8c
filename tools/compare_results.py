"""Compare a table of results with the committed one: the numbers that moved, and those that left their intervals.

    .venv/bin/python -m tools.compare_results [COMMITTED.csv NEW.csv]

Without arguments, it compares reports/results.csv at HEAD with that of the working tree. tauflow/comparing/judging.py
has the rules. Prints Markdown; exit code 0: nothing failed, 1: a number failed, 2: the tables cannot be
compared.
"""

import sys
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from artifacts.layout import RESULTS
from pipeline.errors import UserError
from pipeline.measurements import parse_measurements, read_measurements
from tauflow.comparing.judging import judge, markdown, passes
from tauflow.comparing.revisions import HEAD, read_text


def main(
    committed: Annotated[Path | None, typer.Argument(help="HEAD's reports/results.csv by default.")] = None,
    new: Annotated[Path, typer.Argument()] = RESULTS,
) -> None:
    """Compare NEW with COMMITTED; exit code 1 if a number left its interval."""
    try:
        judged = judge(_committed() if committed is None else read_measurements(committed), read_measurements(new))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    print(markdown(judged))
    raise typer.Exit(0 if passes(judged["verdict"]) else 1)


def _committed() -> pd.DataFrame:
    text = read_text(HEAD, RESULTS)
    if text is None:
        raise UserError(f"{HEAD} has no {RESULTS}; name two tables to compare")
    return parse_measurements(text, f"{HEAD}: {RESULTS}")


if __name__ == "__main__":
    typer.run(main)
