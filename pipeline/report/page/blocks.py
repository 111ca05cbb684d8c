"""The parts of a page: sections of text, tables and panels of figures."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
import plotly.graph_objects as go

from pipeline.report.tables.formats import Marked


@dataclass(frozen=True)
class Table:
    """A table of formatted text.

    name: the stem of its files; a table with an empty name is not written to files.
    frame: the cells; the index is not shown.
    marked: the cells to be set in bold.
    folded: whether the table is collapsed until its caption is clicked.
    """

    name: str
    frame: pd.DataFrame
    caption: str = ""
    marked: Marked = field(default_factory=dict)
    folded: bool = False


@dataclass(frozen=True)
class Panels:
    """Figures side by side, as many in a row as fit into the window.

    width: of a column, in pixels; figures shrink where the window is narrower.
    least: the width in pixels below which figures scroll sideways instead of shrinking.
    """

    figures: Sequence[go.Figure]
    caption: str = ""
    width: int = 340
    least: int = 0


@dataclass(frozen=True)
class Text:
    """A paragraph, optionally followed by a command, or a listing."""

    text: str
    command: str = ""
    listing: bool = False


Block = Table | Panels | Text


@dataclass(frozen=True)
class PageSection:
    """A heading with the blocks under it."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """Return the heading as a fragment of a URL."""
        return self.title.casefold().replace(" ", "-")

    def tables(self) -> list[Table]:
        """Return the tables that are written to files."""
        return [block for block in self.blocks if isinstance(block, Table) and block.name]
