"""Disentanglement error: one pair in all paradigms side by side, and all pairs of a paradigm at once."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pipeline.report.page.canvas import new_figure
from pipeline.report.style import SEQUENTIAL
from pipeline.report.views import (
    DISTANCES,
    ERROR_TOP,
    ErrorMap,
    Pair,
    divergence_top,
    heatmap_alphas,
    mean_grid,
    pair_grid,
)


def pair_comparison(heatmaps: Mapping[str, pd.DataFrame], tasks: Sequence[str]) -> go.Figure:
    """Return ξ(α₁, α₂) of a pair chosen in a menu, for every paradigm (columns) and both distances (rows).

    The square is [0, 1]², where coefficients are searched. The menu begins with the mean over pairs.

    Args:
        heatmaps: by paradigm: ``first``, ``second``, ``alpha_1``, ``alpha_2``, ``error``, ``divergence``.
        tasks: the tasks, in order.
    """
    paradigms = list(heatmaps)
    figure = new_figure(600, margin={"l": 60, "r": 20, "t": 96, "b": 48})
    make_subplots(
        rows=2,
        cols=len(paradigms),
        horizontal_spacing=0.02,
        vertical_spacing=0.05,
        column_titles=paradigms,
        figure=figure,
    )
    panels = list(itertools.product(DISTANCES, paradigms))
    alphas = heatmap_alphas(heatmaps[paradigms[0]])
    for position, (distance, paradigm) in enumerate(panels):
        trace = go.Heatmap(
            x=alphas,
            y=alphas,
            z=mean_grid(heatmaps[paradigm], distance).round(4).tolist(),
            coloraxis=_coloraxis(distance),
            hovertemplate="α₁ = %{x:.2f}, α₂ = %{y:.2f}: ξ = %{z:.3f}"
            f"<extra>{paradigm}, {DISTANCES[distance]}</extra>",
        )
        row, column = divmod(position, len(paradigms))
        figure.add_trace(trace, row=row + 1, col=column + 1)
        number = str(position + 1) if position else ""
        axes = {"xref": f"x{number}", "yref": f"y{number}"}
        # All panels zoom together; tick labels stand under the lower row and beside the first column.
        linked = ({"matches": "x"}, {"matches": "y"}) if position else ({}, {})
        figure.update_xaxes(linked[0], showticklabels=row == 1, row=row + 1, col=column + 1)
        figure.update_yaxes(linked[1], showticklabels=column == 0, row=row + 1, col=column + 1)
        figure.add_shape(type="rect", x0=0, x1=1, y0=0, y1=1, line={"color": "#ff5a36", "width": 2}, **axes)
    _add_coloraxes(figure, heatmaps)
    pairs = list(itertools.combinations(tasks, 2))
    menu = [_button("mean over pairs", [mean_grid(heatmaps[p], d) for d, p in panels], ("task 1", "task 2"), paradigms)]
    for pair in pairs:
        grids = [pair_grid(heatmaps[paradigm], pair, distance) for distance, paradigm in panels]
        menu.append(_button(" and ".join(pair), grids, pair, paradigms))
    figure.layout.updatemenus = [{"buttons": menu, "x": 0, "xanchor": "left", "y": 1.22, "yanchor": "top"}]
    figure.update_layout(_axis_titles(("task 1", "task 2"), paradigms))
    return figure


def all_pairs(points: pd.DataFrame, tasks: Sequence[str], paradigm: str, divergence_end: float) -> go.Figure:
    """Return ξ of every pair of one paradigm: predictions below the diagonal, representations above it.

    In a tile, the coefficient of the row's task grows upwards and that of the column's to the right.

    Args:
        points: points of one paradigm, as in :func:`pair_comparison`.
        tasks: the tasks, in order.
        paradigm: the title.
        divergence_end: the divergence at which colours saturate.
    """
    alphas = heatmap_alphas(points)
    columns = [f"{task}, α = {alpha:.2f}" for task in tasks for alpha in [*alphas, np.inf]][:-1]
    rows = [f"{task}, α = {alpha:.2f}" for task in tasks for alpha in [np.inf, *alphas[::-1]]][1:]
    figure = new_figure(420, title=paradigm, margin={"l": 70, "r": 12, "t": 36, "b": 70})
    for distance in DISTANCES:
        z = np.full((len(rows), len(columns)), np.nan, np.float32)
        for i, j in np.ndindex(len(tasks), len(tasks)):
            if i == j or (i > j) != (distance == "error"):
                continue
            pair = (str(tasks[min(i, j)]), str(tasks[max(i, j)]))
            grid = pair_grid(points, pair, distance)
            top, left = i * (len(alphas) + 1), j * (len(alphas) + 1)
            # Rows are the row task's α, the largest on top.
            tile = (grid.T if i < j else grid)[::-1]
            z[top : top + len(alphas), left : left + len(alphas)] = tile
        figure.add_heatmap(
            x=columns,
            y=rows,
            z=z,
            coloraxis=_coloraxis(distance),
            hoverongaps=False,
            hovertemplate=f"%{{y}}<br>%{{x}}<br>ξ = %{{z:.3f}}<extra>{DISTANCES[distance]}</extra>",
        )
    middle = len(alphas) // 2
    step = len(alphas) + 1
    ticks = {"tickmode": "array", "ticktext": list(tasks), "showgrid": False, "zeroline": False}
    figure.update_xaxes(tickvals=[columns[k * step + middle] for k in range(len(tasks))], tickangle=-90, **ticks)
    figure.update_yaxes(tickvals=[rows[k * step + middle] for k in range(len(tasks))], autorange="reversed", **ticks)
    for distance, top in (("error", ERROR_TOP), ("divergence", divergence_end)):
        scale = {"colorscale": SEQUENTIAL.capitalize(), "cmin": 0, "cmax": top, "showscale": False}
        figure.layout[_coloraxis(distance)] = scale
    return figure


def _coloraxis(distance: str) -> str:
    return "coloraxis" if distance == "error" else "coloraxis2"


def _add_coloraxes(figure: go.Figure, heatmaps: Mapping[str, pd.DataFrame]) -> None:
    tops = {"error": ERROR_TOP, "divergence": divergence_top(heatmaps)}
    for row, (distance, name) in enumerate(DISTANCES.items()):
        title = {"text": f"ξ, {name}", "side": "right"}
        # The last tick label shows that colours saturate there.
        ticks = np.linspace(0, tops[distance], 5)
        labels = [f"{tick:.2f}" for tick in ticks[:-1]] + [f"≥ {ticks[-1]:.2f}"]
        marks = {"tickmode": "array", "tickvals": ticks.tolist(), "ticktext": labels}
        bar = {**marks, "len": 0.5, "y": 0.76 - 0.53 * row, "thickness": 12, "title": title}
        scale = {"colorscale": SEQUENTIAL.capitalize(), "cmin": 0, "cmax": tops[distance], "colorbar": bar}
        figure.layout[_coloraxis(distance)] = scale


def _button(label: str, grids: Sequence[ErrorMap], pair: Pair, paradigms: Sequence[str]) -> dict[str, object]:
    data = {"z": [grid.round(4).tolist() for grid in grids]}
    titles = {f"{axis}.title.text": title["title"]["text"] for axis, title in _axis_titles(pair, paradigms).items()}
    return {"method": "update", "label": label, "args": [data, titles]}


def _axis_titles(pair: Pair, paradigms: Sequence[str]) -> dict[str, dict[str, dict[str, str]]]:
    """Return titles for the axes under the lower row and beside the first column."""
    count = len(paradigms)
    under = {f"xaxis{count + 1 + column}": pair[0] for column in range(count)}
    beside = {"yaxis": pair[1], f"yaxis{count + 1}": pair[1]}
    return {axis: {"title": {"text": f"α, {task}"}} for axis, task in {**under, **beside}.items()}
