"""Print or write tables: on the terminal, as CSV, Markdown or LaTeX."""

import re
import sys
from collections.abc import Sequence
from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from pipeline.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.report.tables.formats import Marked

# Wider than all tables: output to a pipe must not be folded, so that lines can be searched.
_PIPE_WIDTH = 1000
# Length from which text with spaces may be broken.
_PROSE = 30
_INTERVAL = re.compile(r"^(?P<value>[+-]?\d+\.(?P<digits>\d+)) \[(?P<low>[+-]?[\d.]+), (?P<high>[+-]?[\d.]+)\]$")


class Format(StrEnum):
    """Output format of a table."""

    table = "table"
    csv = "csv"
    markdown = "markdown"
    latex = "latex"


# Files that a table must not replace.
_KEPT = ("params.yaml", "dvc.yaml", "dvc.lock")

FormatOption = Annotated[
    Format, typer.Option("--format", "-f", help="For people, for programs, for a README, or for a paper (booktabs).")
]
WideOption = Annotated[bool, typer.Option("--wide", help="All columns and intervals, wider than the terminal.")]
OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file instead.", show_default=False)]


def emit(
    frame: "pd.DataFrame",
    title: str,
    form: Format = Format.table,
    out: Path | None = None,
    *,
    wide: bool = False,
    optional: Sequence[str] = (),
    marked: "Marked | None" = None,
) -> None:
    """Print a table of formatted text, or write it to a file.

    Args:
        frame: the table; cells are text.
        title: caption, shown only on the terminal.
        form: output format.
        out: file to write; standard output if ``None``.
        wide: do not fit the table to the terminal.
        optional: columns to leave out on a terminal that is too narrow for all, the first of them first.
        marked: cells in bold on the terminal.

    Raises:
        UserError: the file cannot be written.
    """
    # Not rich's is_terminal, which FORCE_COLOR makes true of a pipe.
    if out is None and form is Format.table and sys.stdout.isatty():
        console = Console()
        if wide:
            console.print(table_of(frame, title, marked), soft_wrap=True, width=_PIPE_WIDTH, crop=False)
            return
        fitted, left_out = fit(frame, console, optional)
        console.print(table_of(fitted, title, marked))
        if left_out:
            console.print(f"Left out: {'; '.join(left_out)}. --wide shows all.", style="dim", highlight=False)
        return
    text = render(frame, title, form)
    if out is None:
        print(text, end="")
    else:
        from pipeline.io.files import write_text

        if any(out.resolve() == Path(kept).resolve() for kept in _KEPT):
            raise UserError(f"--out {out}: the study is made from this file; choose another file")
        try:
            write_text(out, text)
        except UserError as error:
            raise UserError(f"--out {error}") from None
        print(f"{out}: written")


def fit(frame: "pd.DataFrame", console: Console, optional: Sequence[str] = ()) -> tuple["pd.DataFrame", list[str]]:
    """Return a table that fits a terminal without a broken cell, and what it leaves out.

    First intervals become half-widths, ``83.4 ± 0.8`` for ``83.4 [82.6, 84.2]``; then optional columns go, those with
    one value in every row first.
    """
    if _fits(frame, console):
        return frame, []
    left_out = ["intervals' ends"] if frame.map(lambda cell: bool(_INTERVAL.match(cell))).any(axis=None) else []
    frame = frame.map(_half_width)
    columns = [column for column in optional if column in frame.columns]
    for column in sorted(columns, key=lambda column: frame[column].nunique() > 1):
        if _fits(frame, console):
            break
        frame = frame.drop(columns=column)
        left_out.append(column)
    return frame, left_out


def _fits(frame: "pd.DataFrame", console: Console) -> bool:
    unlimited = console.options.update(max_width=_PIPE_WIDTH)
    return Measurement.get(console, unlimited, table_of(frame, "")).minimum <= console.width


def _half_width(cell: str) -> str:
    """Return a number with half the width of its interval; other text as it is."""
    match = _INTERVAL.match(cell)
    if not match:
        return cell
    return f"{match['value']} ± {(float(match['high']) - float(match['low'])) / 2:.{len(match['digits'])}f}"


def render(frame: "pd.DataFrame", title: str, form: Format) -> str:
    """Return a table as text without colours, of any width."""
    return _plain(frame, title) if form is Format.table else _text(frame, form)


def table_of(frame: "pd.DataFrame", title: str, marked: "Marked | None" = None) -> Table:
    """Return a table to print. Only columns of prose break their cells; titles may break between words."""
    table = Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for position, column in enumerate(frame.columns):
        table.add_column(str(column), overflow="fold", min_width=_width(str(column), frame.iloc[:, position]))
    marks = [(marked or {}).get(column, ()) for column in frame.columns]
    for position, row in enumerate(frame.itertuples(index=False)):
        table.add_row(
            *(
                # A bare string's brackets could be taken for markup.
                Text(cell, style="bold" if position in marks[column] else "")
                for column, cell in enumerate(row)
            )
        )
    return table


def _width(title: str, cells: "pd.Series") -> int:
    """Return the width of a column in which nothing is broken but titles and prose, between words."""
    unbroken = (cell for cell in cells if len(cell) <= _PROSE)
    broken = (word for cell in cells if len(cell) > _PROSE for word in cell.split())
    return max(map(cell_len, (*title.split(), *unbroken, *broken)), default=1)


def _plain(frame: "pd.DataFrame", title: str) -> str:
    buffer = StringIO()
    Console(file=buffer, width=_PIPE_WIDTH, force_terminal=False, color_system=None).print(table_of(frame, title))
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _text(frame: "pd.DataFrame", form: Format) -> str:
    from pipeline.report.tables.formats import to_csv, to_latex, to_markdown

    return {Format.csv: to_csv, Format.markdown: to_markdown, Format.latex: to_latex}[form](frame)
