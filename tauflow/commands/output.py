"""Tables as people and programs want them: on the terminal, as CSV, Markdown or LaTeX."""

from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

# Wider than any of our tables: a pipe has no width, and a line that is folded there cannot be searched.
_PIPE_WIDTH = 1000


class Format(StrEnum):
    """How a table is written."""

    table = "table"
    csv = "csv"
    markdown = "markdown"
    latex = "latex"


FormatOption = Annotated[
    Format, typer.Option("--format", "-f", help="For people, for programs, for a README, or for a paper (booktabs).")
]
OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file instead.", show_default=False)]


def emit(frame: "pd.DataFrame", title: str, form: Format = Format.table, out: Path | None = None) -> None:
    """Print a table of formatted text, or write it to a file.

    Args:
        frame: the table, all of whose columns are shown; cells are text.
        title: what it shows; only said on the terminal.
        form: how.
        out: where to; the standard output without it.

    Raises:
        UserError: the file cannot be written.
    """
    console = Console()
    if out is None and form is Format.table and console.is_terminal:
        _print(console, frame, title)
        return
    text = render(frame, title, form)
    if out is None:
        print(text, end="")
    else:
        from pipeline.files import write_text

        try:
            write_text(out, text)
        except OSError as error:
            raise UserError(f"--out {out}: {error.strerror}; choose another file") from None
        print(f"{out}: written")


def render(frame: "pd.DataFrame", title: str, form: Format) -> str:
    """A table as text without colours, of any width."""
    return _plain(frame, title) if form is Format.table else _text(frame, form)


def _print(console: Console, frame: "pd.DataFrame", title: str) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in frame.columns:
        names = not frame[column].str.contains(" ").any()  # which would be cut in two
        table.add_column(column, overflow="fold", no_wrap=names)
    for row in frame.itertuples(index=False):
        table.add_row(*(Text(cell) for cell in row))  # a bare string's brackets could be taken for markup
    console.print(table)


def _plain(frame: "pd.DataFrame", title: str) -> str:
    buffer = StringIO()
    _print(Console(file=buffer, width=_PIPE_WIDTH, no_color=True), frame, title)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _text(frame: "pd.DataFrame", form: Format) -> str:
    from pipeline.report.formats import to_csv, to_latex, to_markdown

    return {Format.csv: to_csv, Format.markdown: to_markdown, Format.latex: to_latex}[form](frame)
