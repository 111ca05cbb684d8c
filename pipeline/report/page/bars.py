"""Accuracies task by task: a group of bars per task, a bar per paradigm or merging method, with intervals."""

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from pipeline.measurements import select
from pipeline.report.page.canvas import new_figure
from pipeline.report.style import COLOURS, looks


def task_bars(
    accuracies: pd.DataFrame, names: Sequence[str], zero_shot: Mapping[str, float], title: str, by: str = "paradigm"
) -> go.Figure:
    """Return one panel; a line over each group is the zero-shot accuracy.

    Args:
        accuracies: a frame of :func:`pipeline.report.views.task_accuracies` or of ``merging_accuracies``.
        names: of the bars; the place among them gives each its colour.
        zero_shot: the accuracy that a task's bars are compared with, in percent, by task.
        title: of the panel.
        by: the column of the names.
    """
    axis = {"title": "accuracy, %", "rangemode": "tozero"}
    figure = new_figure(320, title=title, barmode="group", bargap=0.25, yaxis=axis)
    for name, look in looks(names).items():
        rows = select(accuracies, **{by: name})
        figure.add_bar(
            name=name,
            x=rows["task"].tolist(),
            y=rows["value"].round(2),
            marker={"color": look.colour},
            error_y={
                "array": (rows["high"] - rows["value"]).round(2),
                "arrayminus": (rows["value"] - rows["low"]).round(2),
                "thickness": 1,
                "color": COLOURS[5],
                "width": 2,
            },
            customdata=rows[["low", "high"]].round(1).to_numpy(),
            hovertemplate=f"%{{x}}: %{{y:.1f}} % [%{{customdata[0]:.1f}}, %{{customdata[1]:.1f}}]<extra>{name}</extra>",
        )
    figure.add_scatter(
        name="zero-shot",
        x=list(zero_shot),
        y=[round(accuracy, 2) for accuracy in zero_shot.values()],
        mode="markers",
        marker={"symbol": "line-ew-open", "size": 24, "color": COLOURS[5], "line": {"width": 2}},
        hovertemplate="%{x}: %{y:.1f} %<extra>zero-shot</extra>",
    )
    return figure
