"""The tables and figures of the page as files for papers: Markdown, CSV, LaTeX; SVG and PDF."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.files import write_text
from pipeline.report.blocks import Section
from pipeline.report.figures import write_figure
from pipeline.report.formats import to_csv, to_latex, to_markdown
from pipeline.report.inputs import Study
from pipeline.report.paper import PAPER_TABLES, paper_figures, paper_table


def write_tables(directory: Path, study: Study, sections: Mapping[str, list[Section]]) -> None:
    """Every named table as ``<model>_<name>.md``, ``.csv`` and ``.tex``; the papers' tables as ``<benchmark>.tex``."""
    for model, of_model in sections.items():
        for table in (table for section in of_model for table in section.tables()):
            stem = f"{model}_{table.name}"
            write_text(directory / f"{stem}.md", to_markdown(table.frame, table.marked))
            write_text(directory / f"{stem}.csv", to_csv(table.frame))
            write_text(directory / f"{stem}.tex", to_latex(table.frame, table.marked))
    for benchmark in PAPER_TABLES:
        write_text(directory / f"{benchmark}.tex", to_latex(paper_table(study, benchmark)))


def write_figures(directory: Path, study: Study) -> None:
    """Every figure of every model as ``<model>_<name>.svg`` and ``.pdf``."""
    for model in study.models:
        for name, figure in paper_figures(study, model):
            write_figure(directory / f"{model}_{name}", figure)
