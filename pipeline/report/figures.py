"""Figures for papers: accuracies against α, task by task; and how any is written, the same bytes every time."""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from pipeline.files import atomic_write, write_text
from pipeline.measurements import select
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


def addition_curves(curves: Mapping[str, pd.DataFrame], chosen: Mapping[str, float]) -> Figure:
    """Mean accuracy and mean normalised accuracy on ``val`` against α, one line per paradigm, chosen α marked."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.8), layout="constrained")
        panels = figure.subplots(1, 2)
        for axes, column, title in zip(panels, ("accuracy", "normalized"), ("absolute", "normalised"), strict=True):
            for paradigm, curve in curves.items():
                axes.plot(curve["alpha"], 100 * curve[column], label=paradigm, **line_style(paradigm, curves))
                _mark_chosen(axes, curve, column, chosen[paradigm], looks(curves)[paradigm].colour)
            axes.set(xlabel="α", ylabel=f"{title} accuracy on val, %")
            axes.set_ylim(bottom=0)
        panels[0].legend(frameon=False)
        return figure


def negation_curves(curves: Mapping[str, pd.DataFrame], chosen: Mapping[str, float], retention_line: float) -> Figure:
    """Target and control accuracy on ``val`` against α, one line per negated task, chosen α marked."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 2.8), layout="constrained")
        panels = figure.subplots(1, 2)
        for axes, column in zip(panels, ("target", "control"), strict=True):
            for task, curve in curves.items():
                look = looks(curves)[task]
                line = {"color": look.colour, "linestyle": look.paper_dash}
                axes.plot(curve["alpha"], 100 * curve[column], label=task, linewidth=1, **line)
                _mark_chosen(axes, curve, column, chosen[task], look.colour)
            axes.set(xlabel="α", ylabel=f"{column} accuracy on val, %")
            axes.set_ylim(bottom=0)
        panels[1].axhline(100 * retention_line, color="0.5", linestyle="--", linewidth=1)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
        return figure


def task_bars(results: pd.DataFrame, paradigms: Sequence[str], tasks: Sequence[str]) -> Figure:
    """Accuracy task by task, a row of bars per setting and a bar per paradigm, with intervals.

    Args:
        results: of one model.
        paradigms, tasks: in their order.
    """
    settings = {
        "single-task": ("single_task", "none", "accuracy"),
        "sum, tuned α": ("addition", "tuned", "accuracy"),
        "sum, α = 1": ("addition", "alpha_1", "accuracy"),
        "negated, on its task": ("negation", "tuned", "target"),
    }
    width = 0.8 / len(paradigms)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 6.4), layout="constrained")
        panels = figure.subplots(len(settings), 1, sharex=True)
        for axes, (title, (benchmark, setting, metric)) in zip(panels, settings.items(), strict=True):
            of_setting = select(results, benchmark=benchmark, setting=setting, metric=metric)
            for position, (paradigm, look) in enumerate(looks(paradigms).items()):
                rows = select(of_setting, paradigm=paradigm).set_index("task").reindex(list(tasks))
                value, low, high = (100 * rows[column].to_numpy() for column in ("value", "ci_low", "ci_high"))
                x = np.arange(len(tasks)) + (position - (len(paradigms) - 1) / 2) * width
                bars = {"width": width, "color": look.colour, "label": paradigm}
                axes.bar(x, value, yerr=[value - low, high - value], error_kw={"linewidth": 0.8}, **bars)
            axes.set(ylabel="%", title=title, xticks=range(len(tasks)), xticklabels=list(tasks))
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
        return figure


def line_style(name: str, names: Iterable[str]) -> dict[str, Any]:
    """A line's colour, dash and marker, by the place of its name among all."""
    look = looks(names)[name]
    return {"color": look.colour, "linestyle": look.paper_dash, "marker": look.paper_marker, "markersize": 3}


def plain_log_axis(axes: Axes) -> None:
    """A logarithmic abscissa with ticks at 1, 2, 5, 10 …, written out."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def to_svg(figure: Figure) -> str:
    """The figure as an ``svg`` element."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as ``path.svg`` and ``path.pdf``, atomically."""
    write_text(path.with_name(f"{path.name}.svg"), to_svg(figure))
    figure.set_layout_engine("none")  # the layout that was found, which takes longer to find than to draw
    with atomic_write(path.with_name(f"{path.name}.pdf")) as temporary, mpl.rc_context(STYLE):
        figure.savefig(temporary, format="pdf", metadata={"CreationDate": None})


def _mark_chosen(axes: Axes, curve: pd.DataFrame, column: str, alpha: float, colour: str) -> None:
    at = curve[(curve["alpha"] - alpha).abs() < 1e-9]
    ring = {"marker": "o", "markersize": 7, "markerfacecolor": "none", "markeredgewidth": 1.2}
    axes.plot(at["alpha"], 100 * at[column], linestyle="", color=colour, **ring)
