"""Figures of the analyses: heatmaps, interference, geometry, NTK localisation."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from pipeline.measurements import select
from pipeline.report.paper.style import STYLE, plain_log_axis
from pipeline.report.style import DIVERGING, LIGHT_SEQUENTIAL, SEQUENTIAL, TEXT_ON_CELLS, looks
from pipeline.report.views import COSINE_TOP, DISTANCES, ERROR_TOP, divergence_top, heatmap_alphas, pair_grid

# Number of pairs that fit into the disentanglement figure.
_SHOWN_PAIRS = 3
_LABELS = {"tau_jp": "τJp", "drop": "drop in accuracy, points"}


def heatmaps(points: pd.DataFrame, tasks: Sequence[str]) -> Figure:
    """Draw ξ of every pair: of predictions below the diagonal, of representations above it.

    Args:
        points: points of one paradigm: ``first``, ``second``, ``alpha_1``, ``alpha_2``, ``error``, ``divergence``.
        tasks: the tasks, in order.
    """
    extent = _extent(points)
    tops = {"error": ERROR_TOP, "divergence": divergence_top({"": points})}
    size = len(tasks)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.05 * size + 1.2, 1.05 * size), layout="constrained")
        images: dict[str, AxesImage] = {}
        for row, column in np.ndindex(size, size):
            axes = figure.add_subplot(size, size, 1 + row * size + column)
            axes.set(xticks=[], yticks=[])
            if row == column:
                axes.set_axis_off()
                axes.text(0.5, 0.5, f"{tasks[row]}", transform=axes.transAxes, ha="center", va="center", fontsize=8)
                continue
            first, second = sorted((row, column))
            pair = (str(tasks[first]), str(tasks[second]))
            distance = "error" if row > column else "divergence"
            grid = pair_grid(points, pair, distance)
            # α of the row's task grows upwards, α of the column's task to the right.
            image = axes.imshow(
                grid.T if row == first else grid,
                origin="lower",
                extent=extent,
                vmin=0,
                vmax=tops[distance],
                cmap=SEQUENTIAL,
            )
            images[distance] = image
            axes.plot(1, 1, marker="+", color="white", markersize=5, markeredgewidth=0.8)
        panels = figure.axes
        sides = {"error": ("bottom", "below the diagonal"), "divergence": ("right", "above it")}
        for distance, (side, place) in sides.items():
            label = f"ξ, {DISTANCES[distance]} ({place})"
            figure.colorbar(images[distance], ax=panels, location=side, shrink=0.5, label=label, extend="max")
        return figure


def disentanglement(heatmaps: Mapping[str, pd.DataFrame], tasks: Sequence[str]) -> Figure:
    """Draw ξ(α₁, α₂) of predictions: a row per paradigm, a column per pair, with the square in which α is searched.

    The layout is that of Ortiz-Jimenez et al., figure 3; the pairs are disjoint, in the order of the tasks.
    """
    shown = list(zip(tasks[::2], tasks[1::2], strict=False))[:_SHOWN_PAIRS]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.7 * len(shown) + 1.1, 1.6 * len(heatmaps) + 0.4), layout="constrained")
        panels = figure.subplots(len(heatmaps), len(shown), squeeze=False, sharex=True, sharey=True)
        for row, (paradigm, points) in zip(panels, heatmaps.items(), strict=True):
            for axes, pair in zip(row, shown, strict=True):
                grid = pair_grid(points, pair, "error")
                limits = {"vmin": 0, "vmax": ERROR_TOP}
                axes.imshow(grid, origin="lower", extent=_extent(points), cmap=SEQUENTIAL, **limits)
                axes.add_patch(Rectangle((0, 0), 1, 1, fill=False, edgecolor="red", linewidth=1.2))
            row[0].set_ylabel(f"{paradigm}\nα₂")
        for axes, (first, second) in zip(panels[0], shown, strict=True):
            axes.set_title(f"{first} – {second}", fontsize=8)
        for axes in panels[-1]:
            axes.set_xlabel("α₁")
        figure.colorbar(panels[0][0].images[0], ax=panels, label="ξ(α₁, α₂)", shrink=0.6, extend="max")
        return figure


def interference(matrices: Mapping[str, Mapping[str, pd.DataFrame]]) -> Figure:
    """Draw τJp(t, s) and the drop of task s: a row of matrices per metric, a column per paradigm.

    Args:
        matrices: by metric (``tau_jp``, ``drop``), then paradigm.
    """
    count = max(map(len, matrices.values()))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.5 * count + 1.6, 5.4), layout="constrained")
        panels = figure.subplots(len(matrices), count, squeeze=False)
        for row, (metric, by_paradigm) in enumerate(matrices.items()):
            top = max(float(np.nanmax(matrix.abs())) for matrix in by_paradigm.values())
            low, colours = (0.0, SEQUENTIAL) if metric == "tau_jp" else (-top, DIVERGING)
            for column, (axes, (paradigm, matrix)) in enumerate(zip(panels[row], by_paradigm.items(), strict=True)):
                _draw_matrix(axes, matrix, low, top, colours)
                axes.set_title(paradigm if row == 0 else "")
                axes.set_ylabel("task vector" if column == 0 else "")
                axes.set_xlabel("images" if row == len(matrices) - 1 else "")
            figure.colorbar(panels[row][0].images[0], ax=panels[row].tolist(), label=_LABELS[metric])
        return figure


def interference_scatter(points: pd.DataFrame, correlations: Mapping[str, str]) -> Figure:
    """Draw τJp(t, s) against the drop of task s when τₜ is added, a point per ordered pair t ≠ s.

    Args:
        points: a frame of :func:`pipeline.report.views.interference_points`.
        correlations: Spearman's ρ in words by paradigm; empty where it is not defined.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 3.4), layout="constrained")
        axes = figure.subplots()
        for paradigm, look in looks(correlations).items():
            rows = select(points, paradigm=paradigm)
            label = f"{paradigm}: {correlations[paradigm]}" if correlations[paradigm] else paradigm
            marker = look.paper_marker
            axes.scatter(rows["tau_jp"], rows["drop"], s=9, alpha=0.7, label=label, color=look.colour, marker=marker)
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.set(xlabel="τJp(t, s)", ylabel="drop of task s, points")
        plain_log_axis(axes)
        figure.legend(loc="outside right center", frameon=False, title="rank correlation")
        return figure


def merging(matrices: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw mean normalised accuracy in percent, a matrix of paradigms by merging methods per setting.

    Args:
        matrices: frames of :func:`pipeline.report.views.merging_matrix`, by the setting in words.
    """
    colours = LinearSegmentedColormap.from_list("light", LIGHT_SEQUENTIAL)
    top = max(float(np.nanmax(matrix)) for matrix in matrices.values())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(matrices), 3.2), layout="constrained")
        panels = figure.subplots(1, len(matrices), squeeze=False, sharey=True)[0]
        for axes, (words, matrix) in zip(panels, matrices.items(), strict=True):
            _draw_matrix(axes, matrix, 0.0, top, colours)
            for (row, column), value in np.ndenumerate(matrix.to_numpy(dtype=float)):
                if np.isfinite(value):
                    axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=7, color=TEXT_ON_CELLS)
            axes.set_title(f"normalised accuracy, {words}, %", fontsize=9)
        return figure


def cosines(matrices: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw cosine similarities of flattened task vectors, one matrix per recipe."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.5 * len(matrices) + 1.2, 2.9), layout="constrained")
        panels = figure.subplots(1, len(matrices), squeeze=False)[0]
        for axes, (recipe, matrix) in zip(panels, matrices.items(), strict=True):
            _draw_matrix(axes, matrix, -COSINE_TOP, COSINE_TOP, DIVERGING)
            axes.set_title(recipe)
        figure.colorbar(panels[0].images[0], ax=panels.tolist(), label="cosine", extend="both")
        return figure


def orthogonality(responses: pd.DataFrame, layers: Sequence[str]) -> Figure:
    """Draw how much of each layer's inputs lies in an update's rows: on its own task's images, and on other tasks'.

    Args:
        responses: a frame of :func:`pipeline.report.views.responses`.
        layers: layers that any recipe trains, in order.
    """
    recipes = list(dict.fromkeys(responses["recipe"]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.7 * len(recipes) + 0.6, 3.6), layout="constrained")
        panels = figure.subplots(1, len(recipes), sharex=True, sharey=True, squeeze=False)[0]
        for axes, recipe in zip(panels, recipes, strict=True):
            for images in ("own task", "other tasks"):
                rows = select(responses, recipe=recipe, images=images).set_index("layer")
                trained = [position for position, layer in enumerate(layers) if layer in rows.index]
                means = rows.loc[[layers[position] for position in trained], "response"]
                axes.plot(means, trained, marker="o", markersize=3, label=images)
            axes.set(title=recipe, xlabel="response", yticks=range(len(layers)))
            axes.set_xlim(left=0)
        panels[0].set_yticklabels(layers)
        panels[0].invert_yaxis()
        lines = panels[0].get_legend_handles_labels()
        figure.legend(*lines, loc="outside lower center", ncols=2, frameon=False)
        return figure


def localisation(shares: pd.DataFrame) -> Figure:
    """Draw the larger share of an eigenfunction's energy on one of two tasks: mean and range over pairs.

    Args:
        shares: a frame of :func:`pipeline.report.views.localisation`.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.0), layout="constrained")
        axes = figure.subplots()
        for weights in dict.fromkeys(shares["weights"]):
            rows = select(shares, weights=weights)
            (line,) = axes.plot(
                rows["eigenfunction"], rows["mean"], marker="o", markersize=3, label=f"{weights} weights"
            )
            axes.fill_between(rows["eigenfunction"], rows["low"], rows["high"], color=line.get_color(), alpha=0.12)
        axes.axhline(0.5, color="0.6", linestyle="--", linewidth=0.8)
        axes.set(xlabel="eigenfunction, the leading one first", ylabel="energy on one task", ylim=(0.45, 1.02))
        figure.legend(loc="outside right center", frameon=False)
        return figure


def _extent(points: pd.DataFrame) -> tuple[float, float, float, float]:
    """Return the edges of a heatmap whose cells are centred on their coefficients."""
    alphas = heatmap_alphas(points)
    half = float(np.diff(alphas).mean()) / 2 if len(alphas) > 1 else 0.5
    low, high = float(alphas[0]) - half, float(alphas[-1]) + half
    return low, high, low, high


def _draw_matrix(axes: Axes, matrix: pd.DataFrame, low: float, high: float, colours: str | Colormap) -> None:
    axes.imshow(matrix.to_numpy(dtype=float), vmin=low, vmax=high, cmap=colours)
    axes.set_xticks(range(len(matrix.columns)), matrix.columns, rotation=90, fontsize=7)
    axes.set_yticks(range(len(matrix.index)), matrix.index, fontsize=7)
    axes.spines[:].set_visible(False)
