"""Style figures for papers, and write them with reproducible bytes."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from pipeline.io.files import atomic_write, write_text
from pipeline.report.style import COLOURS, looks

# A fixed salt and no date make the SVG deterministic; text stays text, so that it can be read and selected.
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "tauflow",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # journals refuse the default, Type 3
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS),
}


def line_style(name: str, names: Iterable[str]) -> dict[str, Any]:
    """Return a line's colour, dash and marker, by the position of its name among all names."""
    look = looks(names)[name]
    return {"color": look.colour, "linestyle": look.paper_dash, "marker": look.paper_marker, "markersize": 3}


def plain_log_axis(axes: Axes) -> None:
    """Make the x-axis logarithmic, with plain labels at 1, 2, 5, 10 …."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def to_svg(figure: Figure) -> str:
    """Return the figure as an ``svg`` element."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as ``path.svg`` and ``path.pdf``, atomically."""
    write_text(path.with_name(f"{path.name}.svg"), to_svg(figure))
    figure.set_layout_engine("none")  # keep the SVG's layout: computing it takes longer than drawing
    with atomic_write(path.with_name(f"{path.name}.pdf")) as temporary, mpl.rc_context(STYLE):
        figure.savefig(temporary, format="pdf", metadata={"CreationDate": None})
