"""Accuracies task by task: a group of bars per task, a bar per paradigm, with intervals."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from pipeline.measurements import select
from pipeline.report.interactive.canvas import new_figure
from pipeline.report.style import COLOURS, looks

# Title → benchmark, setting, metric.
PANELS = {
    "Single-task model": ("single_task", "none", "accuracy"),
    "Sum of all task vectors, tuned α": ("addition", "tuned", "accuracy"),
    "Sum of all task vectors, α = 1": ("addition", "alpha_1", "accuracy"),
    "Negated task vector, on its task": ("negation", "tuned", "target"),
    "Negated task vector, on the control": ("negation", "tuned", "control"),
}


def task_bars(
    results: pd.DataFrame, paradigms: Sequence[str], tasks: Sequence[str], control: str, title: str
) -> go.Figure:
    """One panel of :data:`PANELS`; a line over each group is the zero-shot accuracy.

    Args:
        results: of one model.
        paradigms: in their order.
        tasks: in their order.
        control: whose zero-shot accuracy negation is compared with, where the control is classified.
        title: of the panel.
    """
    benchmark, setting, metric = PANELS[title]
    figure = new_figure(
        320, title=title, barmode="group", bargap=0.25, yaxis={"title": "accuracy, %", "rangemode": "tozero"}
    )
    found = select(results, benchmark=benchmark, setting=setting, metric=metric)
    for paradigm, look in looks(paradigms).items():
        rows = select(found, paradigm=paradigm).set_index("task").reindex(list(tasks))
        value, low, high = (100 * rows[column] for column in ("value", "ci_low", "ci_high"))
        figure.add_bar(
            name=paradigm,
            x=list(tasks),
            y=value.round(2),
            marker={"color": look.colour},
            error_y={
                "array": (high - value).round(2),
                "arrayminus": (value - low).round(2),
                "thickness": 1,
                "color": COLOURS[5],
                "width": 2,
            },
            customdata=pd.concat([low, high], axis=1).round(1).to_numpy(),
            hovertemplate="%{x}: %{y:.1f} % [%{customdata[0]:.1f}, %{customdata[1]:.1f}]"
            f"<extra>{paradigm}</extra>",
        )
    figure.add_scatter(
        name="zero-shot",
        x=list(tasks),
        y=_zero_shot(results, tasks, control if metric == "control" else None),
        mode="markers",
        marker={"symbol": "line-ew-open", "size": 24, "color": COLOURS[5], "line": {"width": 2}},
        hovertemplate="%{x}: %{y:.1f} %<extra>zero-shot</extra>",
    )
    return figure


def _zero_shot(results: pd.DataFrame, tasks: Sequence[str], control: str | None) -> list[float]:
    # θ₀ is the same for all paradigms.
    rows = select(results, benchmark="zero_shot", metric="accuracy")
    of_task = dict(zip(rows["task"], rows["value"], strict=True))
    return [round(100 * of_task[control or task], 2) for task in tasks]
