"""Points: τJp against the drop, single-task accuracies, cost against accuracy, ours beside the published."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from pipeline.measurements import MEAN, select
from pipeline.report.analyses import pair_matrix
from pipeline.report.cost import Cost
from pipeline.report.interactive.canvas import new_figure
from pipeline.report.style import COLOURS, Look, looks


def interference(results: pd.DataFrame, paradigms: Sequence[str], tasks: Sequence[str]) -> go.Figure:
    """τJp(t, s) against the drop of task s when τₜ is added, a point per ordered pair t ≠ s.

    Args:
        results: of one model.
        paradigms: in their order.
        tasks: of the task vectors.
    """
    figure = new_figure(420, xaxis={"title": "τJp(t, s)", "type": "log"}, yaxis={"title": "drop of task s, points"})
    other = ~np.eye(len(tasks), dtype=bool)
    names = np.array([[f"τ of {vector}, images of {data}" for data in tasks] for vector in tasks])[other]
    for paradigm, look in looks(paradigms).items():
        of = select(results, paradigm=paradigm, benchmark="tau_jp")
        moved, drop = (pair_matrix(of, metric, tasks, tasks).to_numpy()[other] for metric in ("tau_jp", "drop"))
        hover = "%{text}<br>τJp = %{x:.3f}, drop %{y:.1f} points"
        _add_points(figure, look, paradigm, moved.round(5), (100 * drop).round(2), names, hover)
    ticks = [digit * 10.0**power for power in range(-3, 4) for digit in (1, 2, 5)]
    figure.update_xaxes(tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    return figure


def single_task(results: pd.DataFrame, paradigms: Sequence[str], tasks: Sequence[str]) -> go.Figure:
    """Single-task accuracy of every paradigm against the first one's, a point per task.

    Args:
        results: of one model.
        paradigms: at least two, in their order.
        tasks: in their order.
    """
    reference, *others = paradigms
    figure = new_figure(420, xaxis={"title": f"{reference}, %"}, yaxis={"title": "accuracy, %"})
    of_task = {
        p: 100 * select(results, paradigm=p, benchmark="single_task", metric="accuracy").set_index("task")["value"]
        for p in paradigms
    }
    for paradigm in others:
        x, y = (of_task[name].reindex(list(tasks)).round(2) for name in (reference, paradigm))
        hover = f"%{{text}}: %{{y:.1f}} %, {reference} %{{x:.1f}} %"
        _add_points(figure, looks(paradigms)[paradigm], paradigm, x, y, list(tasks), hover)
    low = min(values.loc[list(tasks)].to_numpy().min() for values in of_task.values())
    figure.add_shape(
        type="line", x0=low, y0=low, x1=100, y1=100, line={"dash": "dash", "width": 1, "color": COLOURS[5]}
    )
    return figure


def cost(results: pd.DataFrame, costs: Mapping[str, Cost], paradigms: Sequence[str], title: str) -> go.Figure:
    """Mean accuracy of the sum at the tuned α against the time of a training step.

    Args:
        results: of one model.
        costs: by paradigm, of those that were measured.
        paradigms: all, in their order.
        title: of the abscissa.
    """
    figure = new_figure(
        380, xaxis={"title": title, "rangemode": "tozero"}, yaxis={"title": "sum, tuned α: mean accuracy, %"}
    )
    means = select(results, task=MEAN, benchmark="addition", setting="tuned", metric="accuracy").set_index("paradigm")
    for paradigm, of in costs.items():
        row = 100 * means.loc[paradigm, ["value", "ci_low", "ci_high"]].astype("float64")
        figure.add_scatter(
            name=paradigm,
            x=[round(of.relative, 3)],
            y=[round(row["value"], 2)],
            error_y={
                "array": [row["ci_high"] - row["value"]],
                "arrayminus": [row["value"] - row["ci_low"]],
                "width": 4,
            },
            mode="markers",
            marker={
                "size": 11,
                "color": looks(paradigms)[paradigm].colour,
                "symbol": looks(paradigms)[paradigm].marker,
            },
            hovertemplate=f"{of.milliseconds:.0f} ms, %{{x:.2f}} times the standard step: %{{y:.1f}} %"
            f"<extra>{paradigm}</extra>",
        )
    return figure


def published(points: pd.DataFrame, model: str, paradigms: Sequence[str], title: str) -> go.Figure:
    """Ours and published accuracies of one column of the results table, a column of points per paradigm.

    Args:
        points: ``paradigm``, ``source``, ``title``, ``percent``; ours are those whose source is the model.
        model: ours.
        paradigms: in their order.
        title: of the column.
    """
    figure = new_figure(460, title=title, xaxis={"categoryorder": "array", "categoryarray": list(paradigms)})
    figure.update_yaxes(title="%")
    for source, look in looks(dict.fromkeys([model, *map(str, points["source"])])).items():
        of = select(points, source=source, title=title)
        if of.empty:
            continue
        figure.add_scatter(
            name=source,
            x=of["paradigm"],
            y=of["percent"],
            mode="markers",
            marker={"size": 14 if source == model else 9, "symbol": look.marker, "color": look.colour},
            hovertemplate=f"%{{x}}: %{{y:.1f}} %<extra>{source}</extra>",
        )
    return figure


def _add_points(figure: go.Figure, look: Look, name: str, x: object, y: object, text: object, hover: str) -> None:
    figure.add_scatter(
        name=name,
        x=x,
        y=y,
        text=text,
        mode="markers",
        marker={"color": look.colour, "symbol": look.marker, "size": 7, "opacity": 0.75},
        hovertemplate=f"{hover}<extra>{name}</extra>",
    )
