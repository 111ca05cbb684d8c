"""Tables, figures and the HTML page that people look at.

Only what the command line needs, too, is imported here: the figures' libraries take a second.
"""

from pipeline.report.tables import headlines, results_table, summary_markdown

__all__ = ["headlines", "results_table", "summary_markdown"]
