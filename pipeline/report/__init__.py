"""The report: tables, the page, and figures for papers.

``tables/`` formats numbers, ``views.py`` builds the frames of figures, ``page/`` and ``paper/`` draw them. This module
imports only what the command line needs: the plotting libraries take a second to import.
"""

from pipeline.report.tables.results import headlines, results_table, summary_markdown

__all__ = ["headlines", "results_table", "summary_markdown"]
