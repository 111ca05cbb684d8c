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

# As an interval is printed in a cell: `54.8 [53.1, 56.4]`.
_INTERVAL = r"^(?P<value>[+-]?[\d.]+)(?: \[(?P<low>[+-]?[\d.]+), (?P<high>[+-]?[\d.]+)\])?$"
# What LaTeX's standard fonts lack.
_SYMBOLS = {"α": r"$\alpha$", "τ": r"$\tau$", "θ": r"$\theta$", "₀": "$_0$", "−": "$-$", "‖": r"$\|$", "Δ": r"$\Delta$"}
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
    return _plain(frame, title) if form is Format.table else _TEXT[form](frame)


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


def _csv(frame: "pd.DataFrame") -> str:
    """An interval becomes two columns of its own, since programs want numbers."""
    import pandas as pd

    columns: list[pd.DataFrame] = []
    for name in frame.columns:
        parts = frame[name].str.extract(_INTERVAL)
        if parts["low"].isna().all():
            parts = pd.DataFrame({"value": frame[name]})
        columns.append(parts.rename(columns={"value": name, "low": f"{name}: low", "high": f"{name}: high"}))
    return pd.concat(columns, axis=1).to_csv(index=False, lineterminator="\n")


def _markdown(frame: "pd.DataFrame") -> str:
    lines = ["| " + " | ".join(frame.columns) + " |", "|" + "---|" * len(frame.columns)]
    cells = frame.replace(r"\|", r"\|", regex=True)
    lines += ["| " + " | ".join(row) + " |" for row in cells.itertuples(index=False)]
    return "\n".join(lines) + "\n"


def _latex(frame: "pd.DataFrame") -> str:
    text = frame.to_latex(index=False, escape=True)
    for symbol, command in _SYMBOLS.items():
        text = text.replace(symbol, command)
    return f"{text.rstrip()}\n"


_TEXT = {Format.csv: _csv, Format.markdown: _markdown, Format.latex: _latex}
