"""report: a table of every number, the report's page, and tables and figures for papers."""

from artifacts import layout
from artifacts.identity import study_identity
from artifacts.study import read_study
from artifacts.tables import read_results, write_results_table
from pipeline.io.files import write_text
from pipeline.report.page.render import render_page
from pipeline.report.page.sections import model_sections
from pipeline.report.paper.export import write_figures, write_tables
from tauflow.running.stage import run_stage


def main() -> None:
    """Gather the measurements of all models and paradigms of ``params.yaml``."""
    with run_stage() as stage:
        params = stage.params
        results = read_results(params)
        study = read_study(params, results)
        sections = {model: model_sections(study, model) for model in study.models}
        page = render_page(study, sections)
        write_tables(layout.TABLES, study, sections)
        write_figures(layout.FIGURES, study)
        write_results_table(layout.RESULTS, results, study_identity(params))
        write_text(layout.REPORT, page)
        stage.journal.artifact(layout.REPORT)
        stage.journal.artifact(layout.RESULTS)


if __name__ == "__main__":
    main()
