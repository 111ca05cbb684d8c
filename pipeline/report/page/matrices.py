"""Matrices, of tasks by tasks or of paradigms by merging methods; the numbers are written in the cells."""

import pandas as pd
import plotly.graph_objects as go

from pipeline.report.page.canvas import new_figure
from pipeline.report.style import LIGHT_DIVERGING, LIGHT_SEQUENTIAL, TEXT_ON_CELLS


def task_matrix(
    matrix: pd.DataFrame, title: str, axes: tuple[str, str], largest: float, signed: bool, digits: int
) -> go.Figure:
    """Return a matrix with its numbers in the cells.

    Args:
        matrix: rows and columns by name; NaN stays empty.
        title: of the figure.
        axes: the titles of rows and columns.
        largest: the value at which colours saturate.
        signed: whether colours begin at ``-largest`` rather than at 0.
        digits: decimals of the numbers.
    """
    rows, columns = axes
    figure = new_figure(380, title=title, margin={"l": 70, "r": 12, "t": 36, "b": 84})
    figure.add_heatmap(
        x=list(matrix.columns),
        y=list(matrix.index),
        z=matrix.round(4).to_numpy(dtype="float32"),
        zmin=-largest if signed else 0.0,
        zmax=largest,
        colorscale=list(LIGHT_DIVERGING if signed else LIGHT_SEQUENTIAL),
        xgap=1,
        ygap=1,
        showscale=False,
        hoverongaps=False,
        texttemplate=f"%{{z:.{digits}f}}",
        textfont={"size": 9, "color": TEXT_ON_CELLS},
        hovertemplate=f"{rows}: %{{y}}<br>{columns}: %{{x}}<br>%{{z:.{max(digits, 3)}f}}<extra>{title}</extra>",
    )
    figure.update_xaxes(title=columns, tickangle=-90, showgrid=False, zeroline=False)
    figure.update_yaxes(title=rows, autorange="reversed", showgrid=False, zeroline=False)
    return figure
