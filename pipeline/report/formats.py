"""Tables of formatted text as files: CSV, Markdown, LaTeX."""

from collections.abc import Mapping, Set

import pandas as pd
from pandas.io.formats.style import Styler

# Row positions of the cells to be set bold, by column.
Marked = Mapping[str, Set[int]]

# As an interval is printed in a cell: `54.8 [53.1, 56.4]`.
_INTERVAL = r"^(?P<value>[+-]?[\d.]+)(?: \[(?P<low>[+-]?[\d.]+), (?P<high>[+-]?[\d.]+)\])?$"

# What LaTeX's standard fonts lack.
_SYMBOLS = {
    **{"α": r"$\alpha$", "τ": r"$\tau$", "θ": r"$\theta$", "ξ": r"$\xi$", "Δ": r"$\Delta$", "λ": r"$\lambda$"},
    **{"₀": "$_0$", "₁": "$_1$", "₂": "$_2$", "−": "$-$", "±": r"$\pm$", "‖": r"$\|$", "†": r"$\dagger$"},
    **{"↑": r"$\uparrow$", "↓": r"$\downarrow$", "×": r"$\times$", "ρ": r"$\rho$"},
}


def to_csv(table: pd.DataFrame) -> str:
    """An interval becomes two columns of its own, since programs want numbers."""
    columns: list[pd.DataFrame] = []
    for name in table.columns:
        parts = table[name].str.extract(_INTERVAL)
        if parts["low"].isna().all():
            parts = pd.DataFrame({"value": table[name]})
        columns.append(parts.rename(columns={"value": name, "low": f"{name}: low", "high": f"{name}: high"}))
    return pd.concat(columns, axis=1).to_csv(index=False, lineterminator="\n")


def to_markdown(table: pd.DataFrame, marked: Marked | None = None) -> str:
    """A table of GitHub's Markdown."""
    cells = table.replace(r"\|", r"\|", regex=True).to_numpy(dtype=object)
    for column, rows in (marked or {}).items():
        at = table.columns.get_loc(column)
        for row in rows:
            cells[row, at] = f"**{cells[row, at]}**"
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    lines += ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join(lines) + "\n"


def to_latex(table: pd.DataFrame, marked: Marked | None = None) -> str:
    """A ``tabular`` with the rules of booktabs; columns may be (group, column), with the groups above."""

    def bold(column: pd.Series) -> list[str]:
        rows = (marked or {}).get(str(column.name), set())
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
