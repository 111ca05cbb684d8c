"""Scatter plots: τJp against the drop, single-task accuracies, cost against accuracy, ours beside published."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from pipeline.measurements import select
from pipeline.report.page.canvas import new_figure
from pipeline.report.style import COLOURS, Look, looks

_LEAKY = " (leaky DTD)"


def interference(points: pd.DataFrame, paradigms: Sequence[str]) -> go.Figure:
    """Return τJp(t, s) against the drop of task s when τₜ is added, a point per ordered pair t ≠ s.

    Args:
        points: a frame of :func:`pipeline.report.views.interference_points`.
        paradigms: all paradigms of the study, which determine the styles.
    """
    figure = new_figure(420, xaxis={"title": "τJp(t, s)", "type": "log"}, yaxis={"title": "drop of task s, points"})
    for paradigm, look in looks(paradigms).items():
        rows = select(points, paradigm=paradigm)
        names = "τ of " + rows["vector"] + ", images of " + rows["images"]
        hover = "%{text}<br>τJp = %{x:.3f}, drop %{y:.1f} points"
        _add_points(figure, look, paradigm, rows["tau_jp"].round(5), rows["drop"].round(2), names, hover)
    ticks = [digit * 10.0**power for power in range(-3, 4) for digit in (1, 2, 5)]
    figure.update_xaxes(tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    return figure


def single_task(points: pd.DataFrame, paradigms: Sequence[str]) -> go.Figure:
    """Return single-task accuracy of every paradigm against the first one's, a point per task.

    Args:
        points: a frame of :func:`pipeline.report.views.single_task_points`.
        paradigms: at least two; the first one is the reference.
    """
    reference, *others = paradigms
    figure = new_figure(420, xaxis={"title": f"{reference}, %"}, yaxis={"title": "accuracy, %"})
    for paradigm in others:
        rows = select(points, paradigm=paradigm)
        hover = f"%{{text}}: %{{y:.1f}} %, {reference} %{{x:.1f}} %"
        x, y = rows["reference"].round(2), rows["accuracy"].round(2)
        _add_points(figure, looks(paradigms)[paradigm], paradigm, x, y, rows["task"].tolist(), hover)
    low = points[["reference", "accuracy"]].to_numpy().min()
    figure.add_shape(
        type="line", x0=low, y0=low, x1=100, y1=100, line={"dash": "dash", "width": 1, "color": COLOURS[5]}
    )
    return figure


def cost(points: pd.DataFrame, paradigms: Sequence[str], title: str) -> go.Figure:
    """Return mean accuracy of the sum at the tuned α against the time of a training step.

    Args:
        points: a frame of :func:`pipeline.report.views.cost_points`.
        paradigms: all paradigms of the study, which determine the styles.
        title: title of the x-axis.
    """
    figure = new_figure(
        380, xaxis={"title": title, "rangemode": "tozero"}, yaxis={"title": "sum, tuned α: mean accuracy, %"}
    )
    for paradigm, look in looks(paradigms).items():
        rows = select(points, paradigm=paradigm)
        if rows.empty:
            continue
        point = rows.iloc[0]
        figure.add_scatter(
            name=paradigm,
            x=[round(point["relative"], 3)],
            y=[round(point["value"], 2)],
            error_y={
                "array": [point["high"] - point["value"]],
                "arrayminus": [point["value"] - point["low"]],
                "width": 4,
            },
            mode="markers",
            marker={"size": 11, "color": look.colour, "symbol": look.marker},
            hovertemplate=f"{point['milliseconds']:.0f} ms, %{{x:.2f}} times the standard step: %{{y:.1f}} %"
            f"<extra>{paradigm}</extra>",
        )
    return figure


def published(points: pd.DataFrame, model: str, paradigms: Sequence[str], title: str) -> go.Figure:
    """Return our and published accuracies of one column of the results table, a column of points per paradigm.

    Args:
        points: a frame of :func:`pipeline.report.tables.literature.published_points`; a source with a leaky DTD is
            drawn hollow.
        model: our model, which is the ``source`` of our points.
        paradigms: the paradigms, in order.
        title: title of the column.
    """
    figure = new_figure(460, title=title, xaxis={"categoryorder": "array", "categoryarray": list(paradigms)})
    figure.update_yaxes(title="%")
    for source, look in looks(dict.fromkeys([model, *map(str, points["source"])])).items():
        of_source = select(points, source=source, title=title)
        for dtd, rows in of_source.groupby("dtd", sort=False):
            leaky = dtd == "leaky"
            figure.add_scatter(
                name=f"{source}{_LEAKY if leaky else ''}",
                x=rows["paradigm"],
                y=rows["percent"],
                mode="markers",
                marker={
                    "size": 14 if source == model else 9,
                    "symbol": f"{look.marker}-open" if leaky else look.marker,
                    "color": look.colour,
                },
                hovertemplate=f"%{{x}}: %{{y:.1f}} %<extra>{source}{_LEAKY if leaky else ''}</extra>",
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
