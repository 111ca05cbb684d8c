"""Figures as SVG text, the same bytes every time."""

import io
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

# A fixed salt and no date make the SVG deterministic; text stays text, so that it can be read and selected.
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "tauflow",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=mpl.color_sequences["tab10"]),
}


def addition_curves(curves: Mapping[str, pd.DataFrame], chosen: Mapping[str, float]) -> str:
    """Mean accuracy and mean normalised accuracy on ``val`` against α, one line per paradigm, chosen α marked."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.8), layout="constrained")
        for axes, column, title in zip(
            figure.subplots(1, 2), ("accuracy", "normalized"), ("absolute", "normalised"), strict=True
        ):
            for paradigm, curve in curves.items():
                (line,) = axes.plot(curve["alpha"], 100 * curve[column], label=paradigm, marker=".", markersize=4)
                axes.axvline(chosen[paradigm], color=line.get_color(), linestyle=":", linewidth=1)
            axes.set(xlabel="α", ylabel=f"{title} accuracy on val, %")
            axes.set_ylim(bottom=0)
        figure.axes[0].legend(frameon=False)
        return to_svg(figure)


def negation_curves(curves: Mapping[str, pd.DataFrame], chosen: Mapping[str, float], retention_line: float) -> str:
    """Target and control accuracy on ``val`` against α, one line per negated task, chosen α marked."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 2.8), layout="constrained")
        for axes, column in zip(figure.subplots(1, 2), ("target", "control"), strict=True):
            for task, curve in curves.items():
                (line,) = axes.plot(curve["alpha"], 100 * curve[column], label=task, linewidth=1)
                at = curve[(curve["alpha"] - chosen[task]).abs() < 1e-9]
                axes.plot(at["alpha"], 100 * at[column], marker="o", markersize=4, color=line.get_color())
            axes.set(xlabel="α", ylabel=f"{column} accuracy on val, %")
            axes.set_ylim(bottom=0)
        figure.axes[1].axhline(100 * retention_line, color="0.5", linestyle="--", linewidth=1)
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
        return to_svg(figure)


def plain_log_axis(axes: Axes) -> None:
    """A logarithmic abscissa with ticks at 1, 2, 5, 10 …, written out."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def to_svg(figure: Figure) -> str:
    """The figure as an ``svg`` element."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
