"""Tables, figures and the HTML page that people look at."""

from pipeline.report.page import Analyses, SearchCurves, render_page
from pipeline.report.tables import headlines, results_table, summary_markdown

__all__ = ["Analyses", "SearchCurves", "headlines", "render_page", "results_table", "summary_markdown"]
