"""What a page is made of: sections of text, tables and panels of figures."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
import plotly.graph_objects as go

from pipeline.report.formats import Marked


@dataclass(frozen=True)
class Table:
    """A table of formatted text.

    name: of its files; those of a table without one are not written.
    frame: all of whose columns are shown.
    marked: the cells that hold the best of their column.
    """

    name: str
    frame: pd.DataFrame
    caption: str = ""
    marked: Marked = field(default_factory=dict)
    folded: bool = False


@dataclass(frozen=True)
class Panels:
    """Figures side by side, as many in a row as the window is wide.

    width: in pixels, of a column; where the window is narrower, figures shrink to it.
    least: to which they do not shrink, but scroll sideways in their frame.
    """

    figures: Sequence[go.Figure]
    caption: str = ""
    width: int = 340
    least: int = 0


@dataclass(frozen=True)
class Text:
    """A paragraph, or a listing."""

    text: str
    listing: bool = False


Block = Table | Panels | Text


@dataclass(frozen=True)
class Section:
    """A heading with what stands under it."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """The heading as a part of an address."""
        return self.title.casefold().replace(" ", "-")

    def tables(self) -> list[Table]:
        """The tables that have files."""
        return [block for block in self.blocks if isinstance(block, Table) and block.name]
