"""Write tables of formatted text as CSV, Markdown and LaTeX."""

from collections.abc import Hashable, Iterable, Mapping, Set

import pandas as pd
from pandas.io.formats.style import Styler

# Row positions of the cells to be set in bold, by column.
Marked = Mapping[Hashable, Set[int]]

# A number with its interval in a cell: `54.8 [53.1, 56.4]`.
_INTERVAL = r"^(?P<value>[+-]?[\d.]+)(?: \[(?P<low>[+-]?[\d.]+), (?P<high>[+-]?[\d.]+)\])?$"

# Symbols that LaTeX's standard fonts lack.
_SYMBOLS = {
    **{"α": r"$\alpha$", "τ": r"$\tau$", "θ": r"$\theta$", "ξ": r"$\xi$", "Δ": r"$\Delta$", "λ": r"$\lambda$"},
    **{"₀": "$_0$", "₁": "$_1$", "₂": "$_2$", "−": "$-$", "±": r"$\pm$", "‖": r"$\|$", "†": r"$\dagger$"},
    **{"↑": r"$\uparrow$", "↓": r"$\downarrow$", "×": r"$\times$", "ρ": r"$\rho$"},
}


def percent(rows: pd.DataFrame, signed: bool = False) -> str:
    """Format a share in percent, ``54.8 [53.1, 56.4]``, or a difference in points, ``+1.2 [-0.3, +2.7]``."""
    value, low, high = (100 * rows.iloc[0][column] for column in ("value", "ci_low", "ci_high"))
    sign = "+" if signed else ""
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def to_csv(table: pd.DataFrame) -> str:
    """Return a table as CSV for programs: an interval becomes two columns of numbers."""
    columns: list[pd.DataFrame] = []
    for name in table.columns:
        parts = table[name].str.extract(_INTERVAL)
        if parts["low"].isna().all():
            parts = pd.DataFrame({"value": table[name]})
        columns.append(parts.rename(columns={"value": name, "low": f"{name}: low", "high": f"{name}: high"}))
    return pd.concat(columns, axis=1).to_csv(index=False, lineterminator="\n")


def to_markdown(table: pd.DataFrame, marked: Marked | None = None) -> str:
    """Return a table in GitHub's Markdown, ending with a line break."""
    marks = marked or {}
    lines = [_markdown_line(table.columns), "|" + "---|" * len(table.columns)]
    for position, row in enumerate(table.itertuples(index=False, name=None)):
        cells = zip(table.columns, row, strict=True)
        lines.append(
            _markdown_line(_bold(cell) if position in marks.get(column, ()) else cell for column, cell in cells)
        )
    return "\n".join(lines) + "\n"


def to_latex(table: pd.DataFrame, marked: Marked | None = None) -> str:
    """Return a ``tabular`` with the rules of booktabs; columns may be (group, column), with the groups above."""

    def bold(column: pd.Series) -> list[str]:
        rows = (marked or {}).get(column.name, set())
        return ["textbf:--rwrap;" if row in rows else "" for row in range(len(column))]

    style = Styler(table.reset_index(drop=True))
    style.hide(axis="index").apply(bold, axis="index")
    style.format(escape="latex").format_index(escape="latex", axis="columns")
    names = (table.iloc[:, position].str.contains(r"^[^\W\d]").any() for position in range(table.shape[1]))
    alignment = "".join("l" if name else "r" for name in names)
    text = style.to_latex(hrules=True, multicol_align="c", column_format=alignment)
    for symbol, command in _SYMBOLS.items():
        text = text.replace(symbol, command)
    return f"{text.rstrip()}\n"


def _bold(cell: str) -> str:
    """Set the number of a cell in bold, not its interval."""
    value, bracket, interval = cell.partition(" [")
    return f"**{value}**{bracket}{interval}"


def _markdown_line(cells: Iterable[str]) -> str:
    escaped = (cell.replace("|", r"\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |"
