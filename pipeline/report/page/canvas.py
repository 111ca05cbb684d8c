"""Layout shared by the page's figures: margins, fonts, and templates for the light and the dark scheme."""

from typing import Any

import plotly.graph_objects as go

from pipeline.report.style import COLOURS

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"


def new_figure(height: int, **layout: Any) -> go.Figure:
    """Return an empty figure without Plotly's template: the page sets one for its scheme.

    Args:
        height: in pixels; the width follows from the page.
        layout: further entries of Plotly's layout.
    """
    margin = {"l": 56, "r": 12, "t": 36, "b": 48}
    # Below the x-axis title, at its position as a fraction of the plot area.
    below = {"orientation": "h", "yanchor": "top", "y": -52 / (height - 120), "x": 0}
    return go.Figure(layout={"height": height, "template": "none", "margin": margin, "legend": below, **layout})


def scheme(dark: bool) -> dict[str, Any]:
    """Return the template of the light or the dark scheme, for JSON; figures are transparent."""
    text, line, grid = ("#e8eaed", "#8b929a", "#333a42") if dark else ("#1b1f24", "#6b737c", "#e3e6ea")
    axis = {"gridcolor": grid, "zerolinecolor": line, "linecolor": line, "automargin": True, "title": {"standoff": 8}}
    return {
        "layout": {
            "font": {"family": FONT, "size": 12, "color": text},
            "title": {"font": {"size": 14}, "x": 0, "xref": "paper", "xanchor": "left", "y": 0.98, "yanchor": "top"},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "colorway": list(COLOURS),
            "hoverlabel": {"font": {"family": FONT, "size": 12}},
            "xaxis": axis,
            "yaxis": axis,
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": line, "activecolor": text},
            "updatemenudefaults": {"bgcolor": "#22272e" if dark else "#f4f5f7", "font": {"color": text}},
            "shapedefaults": {"line": {"color": line}},
        }
    }
