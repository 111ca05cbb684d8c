"""Tables, figures and the HTML page that people look at."""

from pipeline.report.page import SearchCurves, render_page
from pipeline.report.tables import results_table, summary_markdown

__all__ = ["SearchCurves", "render_page", "results_table", "summary_markdown"]
