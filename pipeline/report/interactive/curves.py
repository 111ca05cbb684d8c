"""Lines: accuracy against α with the chosen α, incremental learning, NTK localisation, responses of layers."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Shaped
from plotly.subplots import make_subplots

from pipeline.measurements import select
from pipeline.report.interactive.canvas import new_figure
from pipeline.report.style import COLOURS, looks

ACCURACIES = {"accuracy": "mean accuracy", "normalized": "mean normalised accuracy"}
# Of more points, a line's markers would run into each other.
_MARKED = 25
SETTINGS = {"tuned": "tuned α", "alpha_1": "α = 1"}


def addition_curves(curves: Mapping[str, pd.DataFrame], chosen: Mapping[str, float], column: str) -> go.Figure:
    """Accuracy of the sum on ``val`` against α, a line per paradigm; a ring is the chosen α.

    Args:
        curves: by paradigm: ``alpha``, ``accuracy`` and ``normalized``.
        chosen: the α of each.
        column: which of the two.
    """
    figure = new_figure(380, title=f"Sum: {ACCURACIES[column]} on val", xaxis={"title": "α"})
    figure.update_yaxes(title="%", rangemode="tozero")
    for paradigm, curve in curves.items():
        _add_line(
            figure,
            paradigm,
            curves,
            curve["alpha"].to_numpy(),
            100 * curve[column].to_numpy(),
            "α = %{x:.2f}: %{y:.1f} %",
        )
        at = _chosen(curve, chosen[paradigm])
        _add_ring(figure, paradigm, curves, at["alpha"].to_numpy(), 100 * at[column].to_numpy())
    return figure


def negation_curves(
    curves: Mapping[str, pd.DataFrame], chosen: Mapping[str, float], kept: float, paradigm: str
) -> go.Figure:
    """Target and control accuracy on ``val`` against α, a line per negated task; rings are the chosen α.

    Args:
        curves: by task: ``alpha``, ``target`` and ``control``.
        chosen: the α of each.
        kept: the share of control accuracy that must be kept, drawn as a line.
        paradigm: the title.
    """
    figure = new_figure(480, title=paradigm)
    make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06, figure=figure)
    for row, column in enumerate(("target", "control"), start=1):
        for task, curve in curves.items():
            hover = f"α = %{{x:.2f}}: {column} %{{y:.1f}} %"
            _add_line(figure, task, curves, curve["alpha"].to_numpy(), 100 * curve[column].to_numpy(), hover, row)
            at = _chosen(curve, chosen[task])
            _add_ring(figure, task, curves, at["alpha"].to_numpy(), 100 * at[column].to_numpy(), row)
        figure.update_yaxes(title=f"{column}, %", rangemode="tozero", row=row, col=1)
    figure.add_hline(100 * kept, row=2, col=1, line={"dash": "dash", "width": 1, "color": COLOURS[5]})  # pyright: ignore[reportArgumentType]
    figure.update_xaxes(title="α", row=2, col=1)
    return figure


def incremental_curves(curves: Mapping[str, pd.DataFrame], metric: str, setting: str) -> go.Figure:
    """Accuracy on the tasks so far after every arrival, a line per paradigm: the mean over orders, or one's interval.

    Args:
        curves: by paradigm: ``arrivals``, ``setting``, ``metric``, ``order``, ``value``, ``ci_low``, ``ci_high``.
        metric: ``accuracy`` or ``normalized``.
        setting: ``tuned`` or ``alpha_1``.
    """
    figure = new_figure(360, title=f"{ACCURACIES[metric].capitalize()}, {SETTINGS[setting]}")
    figure.update_xaxes(title="tasks that have arrived", dtick=1)
    figure.update_yaxes(title="%")
    for paradigm, curve in curves.items():
        of = select(curve, metric=metric, setting=setting)
        values = 100 * of.pivot(index="arrivals", columns="order", values="value")
        mean = values.mean(axis=1)
        one = len(values.columns) == 1
        low, high = (of["ci_low"], of["ci_high"]) if one else (values.min(axis=1) / 100, values.max(axis=1) / 100)
        error = {
            "array": (100 * high.to_numpy() - mean.to_numpy()).round(2),
            "arrayminus": (mean.to_numpy() - 100 * low.to_numpy()).round(2),
            "thickness": 1,
            "width": 3,
        }
        _add_line(
            figure,
            paradigm,
            curves,
            mean.index.to_numpy(),
            mean.to_numpy(),
            "after %{x} tasks: %{y:.1f} %",
            error=error,
        )
    return figure


def localisation(found: pd.DataFrame) -> go.Figure:
    """The larger share of an eigenfunction's energy on one of two tasks: mean over pairs, and the range of all pairs.

    Args:
        found: ``weights``, ``first``, ``second``, ``eigenfunction``, ``first_energy``.
    """
    figure = new_figure(360, xaxis={"title": "eigenfunction, the leading one first"})
    figure.update_xaxes(dtick=max(1, found["eigenfunction"].nunique() // 8))
    figure.update_yaxes(title="energy on one task", range=[0.45, 1.02])
    weights = list(dict.fromkeys(map(str, found["weights"])))
    for name in weights:
        of = select(found, weights=name)
        larger = of.assign(larger=of["first_energy"].clip(lower=1 - of["first_energy"]))
        values = larger.pivot(index="eigenfunction", columns=["first", "second"], values="larger").to_numpy()
        mean, ranks = values.mean(axis=1), np.arange(len(values))
        low, high = values.min(axis=1).round(4), values.max(axis=1).round(4)
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
        _add_line(figure, name, weights, ranks, mean, "eigenfunction %{x}: %{y:.3f}", digits=4)
    figure.add_hline(0.5, line={"dash": "dash", "width": 1, "color": COLOURS[5]})
    return figure


def responses(frame: pd.DataFrame, layers: Sequence[str], recipe: str) -> go.Figure:
    """How much of each layer's inputs lies in an update's rows: on its own task's images, and on other tasks'.

    Args:
        frame: ``layer``, ``vector``, ``data``, ``response``, of one recipe.
        layers: all that any recipe moves, in their order.
        recipe: the title.
    """
    figure = new_figure(160 + 13 * len(layers), title=recipe, xaxis={"title": "response", "rangemode": "tozero"})
    figure.update_layout(legend_y=-70 / (76 + 13 * len(layers)))
    own = frame["vector"] == frame["data"]
    groups = ["own task", "other tasks"]
    for name, chosen in zip(groups, (own, ~own), strict=True):
        means = frame.loc[chosen].groupby("layer", sort=False)["response"].mean().reindex(list(layers)).dropna()
        shown = means.index.map(layer_name).to_numpy()
        _add_line(figure, name, groups, means.to_numpy().round(4), shown, "%{y}: %{x:.3f}", digits=None)
    order = [layer_name(layer) for layer in reversed(layers)]
    figure.update_yaxes(categoryorder="array", categoryarray=order, tickfont={"size": 9})
    return figure


def layer_name(layer: str) -> str:
    """A parameter's name without what all have in common."""
    return layer.removeprefix("transformer.resblocks.").removesuffix(".weight")


def _chosen(curve: pd.DataFrame, alpha: float) -> pd.DataFrame:
    return curve.loc[(curve["alpha"] - alpha).abs() < 1e-9]


def _add_line(
    figure: go.Figure,
    name: str,
    names: Mapping[str, object] | Sequence[str],
    x: Shaped[np.ndarray, " points"],
    y: Shaped[np.ndarray, " points"],
    hover: str,
    row: int | None = None,
    error: Mapping[str, object] | None = None,
    digits: int | None = 2,
) -> None:
    """A line in the look of its name among all names."""
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
    figure: go.Figure,
    name: str,
    names: Mapping[str, object],
    x: Shaped[np.ndarray, " _"],
    y: Shaped[np.ndarray, " _"],
    row: int | None = None,
) -> None:
    ring = go.Scatter(
        name=name,
        legendgroup=name,
        showlegend=False,
        x=x,
        y=y.round(2),
        mode="markers",
        marker={"symbol": "circle-open", "size": 13, "color": looks(names)[name].colour, "line": {"width": 2.5}},
        hovertemplate=f"chosen α = %{{x:.2f}}: %{{y:.1f}} %<extra>{name}</extra>",
    )
    figure.add_trace(ring, row=row, col=row and 1)
