"""summary: the table of all paradigms, its numbers, and DVC's metrics; independent of the analyses."""

from dataclasses import asdict

from artifacts import layout
from artifacts.identity import headline_identity
from artifacts.tables import read_results, write_results_table
from pipeline.io.files import write_json, write_text
from pipeline.report import headlines, summary_markdown
from tauflow.running.stage import run_stage
from tauflow.tracking.headlines import paradigm_headlines


def main() -> None:
    """Gather the means over tasks of all models and paradigms of ``params.yaml``."""
    with run_stage() as stage:
        params = stage.params
        results = read_results(params, headlines=True)
        write_results_table(layout.HEADLINES, results, headline_identity(params))
        write_text(layout.SUMMARY, summary_markdown(results, params.models, params.control))
        write_json(layout.METRICS, headlines(results, params.models))
        for headline in paradigm_headlines(params, results):
            stage.journal.paradigm(asdict(headline))
        stage.journal.artifact(layout.SUMMARY)
        print(f"{stage.name}: {layout.SUMMARY}")


if __name__ == "__main__":
    main()
