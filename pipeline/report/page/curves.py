"""Lines: accuracy against α with the chosen α, incremental learning, NTK localisation, responses of layers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Shaped
from plotly.subplots import make_subplots

from pipeline.measurements import select
from pipeline.report.page.canvas import new_figure
from pipeline.report.style import COLOURS, looks
from pipeline.report.views import ACCURACIES, SETTINGS, NegationCurves

# Number of points above which the markers of a line would overlap.
_MARKED = 25
_LIMIT: Any = {"dash": "dash", "width": 1, "color": COLOURS[5]}
# Titles of the y-axes, and formats of the hover text.
_NEGATION = {
    "target": ("target, %", "target %{y:.1f} %"),
    "control": ("control: change, points", "control %{y:+.1f} points"),
}


def addition_curves(curves: pd.DataFrame, column: str) -> go.Figure:
    """Return accuracy of the sum on val against α, a line per paradigm; rings mark the chosen α.

    Args:
        curves: a frame of :func:`pipeline.report.views.addition_curves`.
        column: ``accuracy`` or ``normalized``.
    """
    figure = new_figure(380, title=f"Sum: {ACCURACIES[column]} on val", xaxis={"title": "α"})
    figure.update_yaxes(title="%", rangemode="tozero")
    paradigms = list(dict.fromkeys(curves["paradigm"]))
    for paradigm in paradigms:
        curve = select(curves, paradigm=paradigm)
        hover = "α = %{x:.2f}: %{y:.1f} %"
        _add_line(figure, paradigm, paradigms, curve["alpha"].to_numpy(), curve[column].to_numpy(), hover)
        _add_ring(figure, paradigm, paradigms, curve, column)
    return figure


def negation_curves(curves: NegationCurves, paradigm: str) -> go.Figure:
    """Return target accuracy and the change in control accuracy on val against α, a line per negated task.

    Rings mark the chosen α, a dashed line the largest allowed drop. Axes are the same for all paradigms.
    """
    figure = new_figure(480, title=paradigm)
    make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06, figure=figure)
    frame = select(curves.frame, paradigm=paradigm)
    tasks = list(dict.fromkeys(frame["task"]))
    for row, (column, (title, hover)) in enumerate(_NEGATION.items(), start=1):
        for task in tasks:
            curve = select(frame, task=task)
            x, y = curve["alpha"].to_numpy(), curve[column].to_numpy()
            _add_line(figure, task, tasks, x, y, f"α = %{{x:.2f}}: {hover}", row)
            _add_ring(figure, task, tasks, curve, column, row)
        figure.update_yaxes(title=title, range=list(curves.ranges[column]), row=row, col=1)
    figure.add_hline(curves.limit, row=2, col=1, line=_LIMIT)  # pyright: ignore[reportArgumentType]
    figure.update_xaxes(range=list(curves.ranges["alpha"]))
    figure.update_xaxes(title="α", row=2, col=1)
    return figure


def incremental_curves(curves: pd.DataFrame, metric: str, setting: str) -> go.Figure:
    """Return accuracy on the tasks so far after every arrival, a line per paradigm.

    Args:
        curves: a frame of :func:`pipeline.report.views.incremental_curves`.
        metric: ``accuracy`` or ``normalized``.
        setting: ``tuned`` or ``alpha_1``.
    """
    figure = new_figure(360, title=f"{ACCURACIES[metric].capitalize()}, {SETTINGS[setting]}")
    figure.update_xaxes(title="tasks that have arrived", dtick=1)
    figure.update_yaxes(title="%")
    paradigms = list(dict.fromkeys(curves["paradigm"]))
    for paradigm in paradigms:
        curve = select(curves, paradigm=paradigm, metric=metric, setting=setting)
        error = {
            "array": (curve["high"] - curve["mean"]).round(2),
            "arrayminus": (curve["mean"] - curve["low"]).round(2),
            "thickness": 1,
            "width": 3,
        }
        x, y = curve["arrivals"].to_numpy(), curve["mean"].to_numpy()
        _add_line(figure, paradigm, paradigms, x, y, "after %{x} tasks: %{y:.1f} %", error=error)
    return figure


def localisation(shares: pd.DataFrame) -> go.Figure:
    """Return the larger share of an eigenfunction's energy on one of two tasks: mean and range over pairs.

    Args:
        shares: a frame of :func:`pipeline.report.views.localisation`.
    """
    figure = new_figure(360, xaxis={"title": "eigenfunction, the leading one first"})
    figure.update_xaxes(dtick=max(1, shares["eigenfunction"].nunique() // 8))
    figure.update_yaxes(title="energy on one task", range=[0.45, 1.02])
    weights = list(dict.fromkeys(map(str, shares["weights"])))
    for name in weights:
        rows = select(shares, weights=name)
        ranks = rows["eigenfunction"].to_numpy()
        low, high = rows["low"].to_numpy().round(4), rows["high"].to_numpy().round(4)
        figure.add_scatter(
            x=np.concatenate([ranks, ranks[::-1]]),
            y=np.concatenate([low, high[::-1]]),
            mode="lines",
            fill="toself",
            fillcolor=looks(weights)[name].colour,
            opacity=0.15,
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            legendgroup=name,
        )
        mean = rows["mean"].to_numpy()
        _add_line(figure, name, weights, ranks, mean, "eigenfunction %{x}: %{y:.3f}", digits=4)
    figure.add_hline(0.5, line=_LIMIT)
    return figure


def responses(means: pd.DataFrame, layers: Sequence[str], recipe: str) -> go.Figure:
    """Return how much of each layer's inputs lies in an update's rows: on its own task's images, and on other tasks'.

    Args:
        means: a frame of :func:`pipeline.report.views.responses`.
        layers: layers that any recipe trains, in order.
        recipe: the recipe to show.
    """
    figure = new_figure(160 + 13 * len(layers), title=recipe, xaxis={"title": "response", "rangemode": "tozero"})
    figure.update_layout(legend_y=-70 / (76 + 13 * len(layers)))
    groups = ["own task", "other tasks"]
    for name in groups:
        rows = select(means, recipe=recipe, images=name).set_index("layer").reindex(list(layers)).dropna()
        x, y = rows["response"].to_numpy().round(4), rows.index.to_numpy()
        _add_line(figure, name, groups, x, y, "%{y}: %{x:.3f}", digits=None)
    figure.update_yaxes(categoryorder="array", categoryarray=list(reversed(layers)), tickfont={"size": 9})
    return figure


def _add_line(
    figure: go.Figure,
    name: str,
    names: Iterable[str],
    x: Shaped[np.ndarray, " points"],
    y: Shaped[np.ndarray, " points"],
    hover: str,
    row: int | None = None,
    error: Mapping[str, object] | None = None,
    digits: int | None = 2,
) -> None:
    """Add a line in the style that its name has among all names."""
    look = looks(names)[name]
    line = go.Scatter(
        name=name,
        legendgroup=name,
        showlegend=row in (None, 1),
        x=x,
        y=y if digits is None else y.round(digits),
        error_y=error,
        mode="lines+markers" if len(x) <= _MARKED else "lines",
        line={"color": look.colour, "dash": look.dash, "width": 2},
        marker={"symbol": look.marker, "size": 5},
        hovertemplate=f"{hover}<extra>{name}</extra>",
    )
    figure.add_trace(line, row=row, col=row and 1)


def _add_ring(
    figure: go.Figure, name: str, names: Iterable[str], curve: pd.DataFrame, column: str, row: int | None = None
) -> None:
    chosen = select(curve, chosen=True)
    ring = go.Scatter(
        name=name,
        legendgroup=name,
        showlegend=False,
        x=chosen["alpha"].to_numpy(),
        y=chosen[column].to_numpy().round(2),
        mode="markers",
        marker={"symbol": "circle-open", "size": 13, "color": looks(names)[name].colour, "line": {"width": 2.5}},
        hovertemplate=f"chosen α = %{{x:.2f}}: %{{y:.1f}}<extra>{name}</extra>",
    )
    figure.add_trace(ring, row=row, col=row and 1)
