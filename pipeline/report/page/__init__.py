"""The page: interactive Plotly figures, sections, and the template that joins them.

Nothing here imports matplotlib, which takes a second and is needed by :mod:`pipeline.report.paper` only.
"""
