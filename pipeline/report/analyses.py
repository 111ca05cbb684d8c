"""Figures of the analyses on paper: heatmaps, interference, geometry, NTK localisation, incremental learning, …"""

import itertools
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from pipeline.measurements import select
from pipeline.report.figures import STYLE, line_style, plain_log_axis
from pipeline.report.style import DIVERGING, SEQUENTIAL, looks


def heatmaps(points: pd.DataFrame, tasks: Sequence[str]) -> Figure:
    """ξ of every pair: disagreement of predictions below the diagonal, representation-level divergence above it."""
    alphas = np.unique(points["alpha_1"].to_numpy())
    half = np.diff(alphas).mean() / 2 if len(alphas) > 1 else 0.5
    low, high = alphas[0] - half, alphas[-1] + half  # so that a cell's centre is its α
    largest = float(np.quantile(points["divergence"].to_numpy(), 0.98))
    with mpl.rc_context(STYLE):
        size = len(tasks)
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
            of_pair = select(points, first=tasks[first], second=tasks[second])
            metric, top = ("error", 1.0) if row > column else ("divergence", largest)
            # α of the row's task upwards, of the column's to the right.
            grid = of_pair.pivot(index=_alpha(row == first), columns=_alpha(column == first), values=metric)
            images[metric] = axes.imshow(
                grid.to_numpy(), origin="lower", extent=(low, high, low, high), vmin=0, vmax=top, cmap=SEQUENTIAL
            )
            axes.plot(1, 1, marker="+", color="white", markersize=5, markeredgewidth=0.8)
        panels = figure.axes
        sides = {
            "error": ("bottom", "ξ, predictions (below the diagonal)"),
            "divergence": ("right", "ξ, representations, nats (above)"),
        }
        for metric, (side, label) in sides.items():
            figure.colorbar(images[metric], ax=panels, location=side, shrink=0.5, label=label, extend="max")
        return figure


def _alpha(of_first: bool) -> str:
    return "alpha_1" if of_first else "alpha_2"


def pair_matrix(results: pd.DataFrame, metric: str, rows: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """A metric of pairs ``row+column`` as a matrix; NaN where there is no such pair."""
    of_metric = select(results, metric=metric)
    values = dict(zip(of_metric["task"], of_metric["value"], strict=True))
    cells = [[values.get(f"{row}+{column}", np.nan) for column in columns] for row in rows]
    return pd.DataFrame(cells, index=pd.Index(rows), columns=pd.Index(columns))


def interference(results: pd.DataFrame, paradigms: Sequence[str], tasks: Sequence[str], control: str) -> Figure:
    """τJp(t, s) and the drop of task s, a row of matrices per metric, a column per paradigm."""
    data = [*tasks, control]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.5 * len(paradigms) + 1.6, 5.4), layout="constrained")
        panels = figure.subplots(2, len(paradigms), squeeze=False)
        for row, (metric, label) in enumerate((("tau_jp", "τJp"), ("drop", "drop in accuracy, points"))):
            of = {
                p: pair_matrix(select(results, paradigm=p, benchmark="tau_jp"), metric, tasks, data) for p in paradigms
            }
            scale = 1 if metric == "tau_jp" else 100
            top = scale * max(float(np.nanmax(matrix.abs())) for matrix in of.values())
            low, colours = (0.0, SEQUENTIAL) if metric == "tau_jp" else (-top, DIVERGING)
            for axes, (paradigm, matrix) in zip(panels[row], of.items(), strict=True):
                _matrix(axes, scale * matrix, low, top, colours)
                axes.set_title(paradigm if row == 0 else "")
                axes.set_ylabel("task vector" if paradigm == paradigms[0] else "")
                axes.set_xlabel("images" if row == 1 else "")
            figure.colorbar(panels[row][0].images[0], ax=panels[row].tolist(), label=label)
        return figure


def interference_scatter(results: pd.DataFrame, paradigms: Sequence[str], tasks: Sequence[str]) -> Figure:
    """τJp(t, s) against the drop of task s when τₜ is added, a point per ordered pair t ≠ s."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 3.4), layout="constrained")
        axes = figure.subplots()
        for paradigm, look in looks(paradigms).items():
            of = select(results, paradigm=paradigm, benchmark="tau_jp")
            other = ~np.eye(len(tasks), dtype=bool)
            moved, drop = (pair_matrix(of, metric, tasks, tasks).to_numpy()[other] for metric in ("tau_jp", "drop"))
            correlation = select(of, metric="rank_correlation")
            label = paradigm
            if np.isfinite(correlation["value"].to_numpy()).all():
                row = correlation.iloc[0]
                label += f": ρ = {row['value']:.2f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}]"
            axes.scatter(moved, 100 * drop, s=9, alpha=0.7, label=label, color=look.colour, marker=look.paper_marker)
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.set(xlabel="τJp(t, s)", ylabel="drop of task s, points")
        plain_log_axis(axes)
        figure.legend(loc="outside right center", frameon=False, title="rank correlation")
        return figure


def cosines(results: pd.DataFrame, recipes: Sequence[str], tasks: Sequence[str]) -> Figure:
    """Cosine similarities of flattened task vectors, one matrix per recipe."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.5 * len(recipes) + 1.2, 2.9), layout="constrained")
        panels = figure.subplots(1, len(recipes), squeeze=False)[0]
        for axes, recipe in zip(panels, recipes, strict=True):
            upper = pair_matrix(select(results, paradigm=recipe, benchmark="cosine"), "cosine", tasks, tasks)
            matrix = upper.fillna(upper.T)
            _matrix(axes, matrix, -0.5, 0.5, DIVERGING)
            axes.set_title(recipe)
        figure.colorbar(panels[0].images[0], ax=panels.tolist(), label="cosine")
        return figure


def orthogonality(responses: Mapping[str, pd.DataFrame]) -> Figure:
    """How much of each layer's inputs lies in an update's rows: on its own task's images, and on other tasks'."""
    # All layers that any recipe moves, in the order of the one that moves the most.
    layers = list(dict.fromkeys(max((list(frame["layer"]) for frame in responses.values()), key=len)))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.7 * len(responses) + 0.6, 3.6), layout="constrained")
        panels = figure.subplots(1, len(responses), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (recipe, frame) in zip(panels, responses.items(), strict=True):
            own = frame["vector"] == frame["data"]
            for chosen, label in ((own, "own task"), (~own, "other tasks")):
                moved = [position for position, layer in enumerate(layers) if (frame["layer"] == layer).any()]
                of_layer = [frame.loc[chosen & (frame["layer"] == layers[position]), "response"] for position in moved]
                axes.plot(
                    [values.to_numpy().mean() for values in of_layer], moved, marker="o", markersize=3, label=label
                )
            axes.set(title=recipe, xlabel="response", yticks=range(len(layers)))
            axes.set_xlim(left=0)
        names = [layer.removeprefix("transformer.resblocks.").removesuffix(".weight") for layer in layers]
        panels[0].set_yticklabels(names)
        panels[0].invert_yaxis()
        lines = panels[0].get_legend_handles_labels()
        figure.legend(*lines, loc="outside lower center", ncols=2, frameon=False)
        return figure


def localisation(found: pd.DataFrame) -> Figure:
    """The larger share of an eigenfunction's energy on one of two tasks: mean over pairs, and every pair."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.0), layout="constrained")
        axes = figure.subplots()
        for weights in dict.fromkeys(found["weights"]):
            of = select(found, weights=weights)
            larger = of.assign(larger=of["first_energy"].clip(lower=1 - of["first_energy"]))
            ranks = larger.pivot(index="eigenfunction", columns=["first", "second"], values="larger")
            values = ranks.to_numpy()
            (line,) = axes.plot(values.mean(axis=1), marker="o", markersize=3, label=f"{weights} weights")
            low, high = values.min(axis=1), values.max(axis=1)
            axes.fill_between(range(len(values)), low, high, color=line.get_color(), alpha=0.12)
        axes.axhline(0.5, color="0.6", linestyle="--", linewidth=0.8)
        axes.set(xlabel="eigenfunction, the leading one first", ylabel="energy on one task", ylim=(0.45, 1.02))
        figure.legend(loc="outside right center", frameon=False)
        return figure


def incremental(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Accuracy on the tasks so far after every arrival: means over orders, and thin lines for several orders."""
    settings, metrics = {"tuned": "tuned α", "alpha_1": "α = 1"}, {"accuracy": "absolute", "normalized": "normalised"}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 5.2), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True, sharey="row")
        for (row, metric), (column, setting) in itertools.product(enumerate(metrics), enumerate(settings)):
            axes = panels[row, column]
            for paradigm, curve in curves.items():
                of = select(curve, metric=metric, setting=setting)
                values = 100 * of.pivot(index="arrivals", columns="order", values="value")
                (line,) = axes.plot(values.index, values.mean(axis=1), label=paradigm, **line_style(paradigm, curves))
                if len(values.columns) > 1:
                    axes.plot(values, color=line.get_color(), linewidth=0.6, alpha=0.5)
                else:
                    axes.fill_between(
                        of["arrivals"], 100 * of["ci_low"], 100 * of["ci_high"], alpha=0.15, color=line.get_color()
                    )
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_title(settings[setting] if row == 0 else "")
            axes.set_ylabel(f"{metrics[metric]} accuracy, %" if column == 0 else "")
            axes.set_xlabel("tasks that have arrived" if row == 1 else "")
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right center", frameon=False)
        return figure


def single_task_scatter(results: pd.DataFrame, paradigms: Sequence[str], tasks: Sequence[str]) -> Figure:
    """Single-task accuracy of every paradigm against the first one's, a point per task."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 3.4), layout="constrained")
        axes = figure.subplots()
        of_task = {
            paradigm: select(results, paradigm=paradigm, benchmark="single_task", metric="accuracy").set_index("task")
            for paradigm in paradigms
        }
        reference, *others = paradigms
        for paradigm in others:
            x, y = (100 * of_task[name]["value"].reindex(list(tasks)) for name in (reference, paradigm))
            look = looks(paradigms)[paradigm]
            axes.scatter(x, y, s=14, label=paradigm, color=look.colour, marker=look.paper_marker)
        axes.axline((50, 50), slope=1, color="0.6", linewidth=0.8)
        axes.set(xlabel=f"{reference}, %", ylabel="single-task accuracy, %")
        figure.legend(loc="outside right center", frameon=False)
        return figure


def _matrix(axes: Axes, matrix: pd.DataFrame, low: float, high: float, colours: str) -> None:
    axes.imshow(matrix.to_numpy(dtype=float), vmin=low, vmax=high, cmap=colours)
    axes.set_xticks(range(len(matrix.columns)), matrix.columns, rotation=90, fontsize=7)
    axes.set_yticks(range(len(matrix.index)), matrix.index, fontsize=7)
    axes.spines[:].set_visible(False)
