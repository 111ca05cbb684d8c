"""report: every number in one table, and pages, tables and figures to look at."""

import pandas as pd
import typer

from pipeline.files import write_text
from pipeline.measurements import read_measurements, write_frame
from pipeline.report.export import write_figures, write_tables
from pipeline.report.page import render_page
from pipeline.report.sections import model_sections
from stages.study import analysis_tables, read_study
from stages.tables import read_tables
from tauflow import layout
from tauflow.stage import run_stage


def main() -> None:
    """Gather the measurements of all models and paradigms of ``params.yaml``."""
    with run_stage("report", used=["suite", "models", "paradigms"]) as stage:
        params = stage.params
        tables = read_tables(params.models, params.paradigms)
        tables += [read_measurements(path) for path in analysis_tables(params)]
        results = pd.concat(tables, ignore_index=True)
        study = read_study(params, results)
        sections = {model: model_sections(study, model) for model in study.models}
        page = render_page(study, sections)
        write_tables(layout.TABLES, study, sections)
        write_figures(layout.FIGURES, study)
        write_frame(layout.RESULTS, results)
        write_text(layout.REPORT, page)
        stage.journal.artifact(layout.REPORT)
        stage.journal.artifact(layout.RESULTS)


if __name__ == "__main__":
    typer.run(main)
