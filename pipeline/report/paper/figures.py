"""Figures of accuracies: against α, task by task, against cost, and while tasks arrive."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.measurements import select
from pipeline.report.paper.style import STYLE, line_style
from pipeline.report.style import looks
from pipeline.report.views import ACCURACIES, SETTINGS, NegationCurves

_WORDS = {"accuracy": "absolute", "normalized": "normalised"}


def addition_curves(curves: pd.DataFrame) -> Figure:
    """Draw mean accuracy and mean normalised accuracy on val against α, a line per paradigm; rings mark the chosen α.

    Args:
        curves: a frame of :func:`pipeline.report.views.addition_curves`.
    """
    paradigms = list(dict.fromkeys(curves["paradigm"]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.8), layout="constrained")
        panels = figure.subplots(1, 2)
        for axes, column in zip(panels, ACCURACIES, strict=True):
            for paradigm in paradigms:
                curve = select(curves, paradigm=paradigm)
                axes.plot(curve["alpha"], curve[column], label=paradigm, **line_style(paradigm, paradigms))
                _ring_chosen(axes, curve, column, looks(paradigms)[paradigm].colour)
            axes.set(xlabel="α", ylabel=f"{_WORDS[column]} accuracy on val, %")
            axes.set_ylim(bottom=0)
        panels[0].legend(frameon=False)
        return figure


def negation_curves(curves: NegationCurves, paradigm: str) -> Figure:
    """Draw target accuracy and the change in control accuracy on val against α, a line per negated task.

    Rings mark the chosen α, a dashed line the largest allowed drop. Axes are the same for all paradigms.
    """
    frame = select(curves.frame, paradigm=paradigm)
    tasks = list(dict.fromkeys(frame["task"]))
    labels = {"target": "target accuracy on val, %", "control": "control on val: change, points"}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 2.8), layout="constrained")
        panels = figure.subplots(1, 2)
        for axes, (column, label) in zip(panels, labels.items(), strict=True):
            for task in tasks:
                curve, look = select(frame, task=task), looks(tasks)[task]
                line = {"color": look.colour, "linestyle": look.paper_dash}
                axes.plot(curve["alpha"], curve[column], label=task, linewidth=1, **line)
                _ring_chosen(axes, curve, column, look.colour)
            axes.set(xlabel="α", ylabel=label, xlim=curves.ranges["alpha"], ylim=curves.ranges[column])
        panels[1].axhline(curves.limit, color="0.5", linestyle="--", linewidth=1)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
        return figure


def task_bars(panels: Mapping[str, pd.DataFrame], names: Sequence[str], by: str = "paradigm") -> Figure:
    """Draw accuracy task by task, a row of bars per panel and a bar per paradigm or merging method, with intervals.

    Args:
        panels: frames of :func:`pipeline.report.views.task_accuracies` or of ``merging_accuracies``, by title.
        names: of the bars, in their order.
        by: the column of the names.
    """
    width = 0.8 / len(names)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 1.6 * len(panels)), layout="constrained")
        rows_of_axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (title, accuracies) in zip(rows_of_axes, panels.items(), strict=True):
            tasks = list(dict.fromkeys(accuracies["task"]))
            for position, (name, look) in enumerate(looks(names).items()):
                rows = select(accuracies, **{by: name})
                value, low, high = (rows[column].to_numpy() for column in ("value", "low", "high"))
                x = np.arange(len(tasks)) + (position - (len(names) - 1) / 2) * width
                bars = {"width": width, "color": look.colour, "label": name}
                axes.bar(x, value, yerr=[value - low, high - value], error_kw={"linewidth": 0.8}, **bars)
            axes.set(ylabel="%", title=title, xticks=range(len(tasks)), xticklabels=tasks)
        figure.legend(*rows_of_axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
        return figure


def incremental(curves: pd.DataFrame) -> Figure:
    """Draw accuracy on the tasks so far after every arrival, with a band for the interval or the range over orders.

    Args:
        curves: a frame of :func:`pipeline.report.views.incremental_curves`.
    """
    paradigms = list(dict.fromkeys(curves["paradigm"]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 5.2), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True, sharey="row")
        for (row, metric), (column, setting) in itertools.product(enumerate(ACCURACIES), enumerate(SETTINGS)):
            axes = panels[row, column]
            for paradigm in paradigms:
                curve = select(curves, paradigm=paradigm, metric=metric, setting=setting)
                style = line_style(paradigm, paradigms)
                axes.plot(curve["arrivals"], curve["mean"], label=paradigm, **style)
                axes.fill_between(curve["arrivals"], curve["low"], curve["high"], alpha=0.15, color=style["color"])
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_title(SETTINGS[setting] if row == 0 else "")
            axes.set_ylabel(f"{_WORDS[metric]} accuracy, %" if column == 0 else "")
            axes.set_xlabel("tasks that have arrived" if row == 1 else "")
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right center", frameon=False)
        return figure


def single_task_scatter(points: pd.DataFrame, paradigms: Sequence[str]) -> Figure:
    """Draw single-task accuracy of every paradigm against the first one's, a point per task.

    Args:
        points: a frame of :func:`pipeline.report.views.single_task_points`.
        paradigms: at least two; the first one is the reference.
    """
    reference, *others = paradigms
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 3.4), layout="constrained")
        axes = figure.subplots()
        for paradigm in others:
            rows, look = select(points, paradigm=paradigm), looks(paradigms)[paradigm]
            x, y, marker = rows["reference"], rows["accuracy"], look.paper_marker
            axes.scatter(x, y, s=14, label=paradigm, color=look.colour, marker=marker)
        axes.axline((50, 50), slope=1, color="0.6", linewidth=0.8)
        axes.set(xlabel=f"{reference}, %", ylabel="single-task accuracy, %")
        figure.legend(loc="outside right center", frameon=False)
        return figure


def cost(points: pd.DataFrame, paradigms: Sequence[str], timed_by: str) -> Figure:
    """Draw mean accuracy of the sum at the tuned α against the time of a training step.

    Args:
        points: a frame of :func:`pipeline.report.views.cost_points`.
        paradigms: all paradigms of the study, which determine the styles.
        timed_by: the kind of time.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.2), layout="constrained")
        axes = figure.subplots()
        for paradigm, look in looks(paradigms).items():
            rows = select(points, paradigm=paradigm)
            error = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
            style: dict[str, Any] = {"color": look.colour, "marker": look.paper_marker, "linestyle": ""}
            if len(rows):
                axes.errorbar(rows["relative"], rows["value"], yerr=error, label=paradigm, **style)
        axes.set(xlabel=f"{timed_by} of a training step, against standard", ylabel="sum, tuned α: mean accuracy, %")
        axes.set_xlim(left=0)
        figure.legend(loc="outside right center", frameon=False)
        return figure


def _ring_chosen(axes: Axes, curve: pd.DataFrame, column: str, colour: str) -> None:
    chosen = select(curve, chosen=True)
    ring = {"marker": "o", "markersize": 7, "markerfacecolor": "none", "markeredgewidth": 1.2}
    axes.plot(chosen["alpha"], chosen[column], linestyle="", color=colour, **ring)
