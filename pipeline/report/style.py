"""The style of figures, in papers and on the page: colour-blind safe, and never by colour alone.

A paradigm has the same colour, marker and dash in every figure. The colours are Okabe and Ito's
(jfly.uni-koeln.de/color) if they have a contrast of 3:1 with a white and with a dark background, else darker shades.
"""

from collections.abc import Iterable
from dataclasses import dataclass

LIGHT_BACKGROUND, DARK_BACKGROUND = "#ffffff", "#15181c"

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#c2609c", "#a87900", "#7f7f7f", "#8d5a3b", "#5f6fd0", "#4f8f00")

# Names of the same markers and dashes in Plotly and in matplotlib.
_MARKERS = (
    ("circle", "o"),
    ("square", "s"),
    ("diamond", "D"),
    ("triangle-up", "^"),
    ("triangle-down", "v"),
    ("x", "X"),
    ("star", "*"),
    ("pentagon", "p"),
    ("cross", "P"),
)
_DASHES = (("solid", "-"), ("dash", "--"), ("dot", ":"), ("dashdot", "-."))

# Sequential maps that print well in grey; a diverging map for signed numbers. Plotly capitalises the first name.
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"

# In cells with numbers, colours are light enough for black text with a contrast of 4.5 : 1.
TEXT_ON_CELLS = "#111111"
LIGHT_SEQUENTIAL = ("#f7fbff", "#5aa2d4")
LIGHT_DIVERGING = ("#6aaed6", "#f7f7f7", "#e9967a")


@dataclass(frozen=True)
class Look:
    """Colour as ``#rrggbb``; marker and dash as Plotly calls them, and as matplotlib does (``paper_…``)."""

    colour: str
    marker: str
    paper_marker: str
    dash: str
    paper_dash: str


def looks(names: Iterable[str]) -> dict[str, Look]:
    """Return a look per name, by position; colours and markers repeat after nine names, dashes after four."""
    return {name: _look(position) for position, name in enumerate(names)}


def _look(position: int) -> Look:
    marker, paper_marker = _MARKERS[position % len(_MARKERS)]
    dash, paper_dash = _DASHES[position % len(_DASHES)]
    return Look(COLOURS[position % len(COLOURS)], marker, paper_marker, dash, paper_dash)
