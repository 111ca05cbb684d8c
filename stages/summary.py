"""summary: the table of all paradigms and the metrics of DVC, which wait for no analysis."""

import pandas as pd
import typer

from pipeline.files import write_json, write_text
from pipeline.report import headlines, summary_markdown
from stages.tables import read_tables
from tauflow import layout
from tauflow.headlines import paradigm_headlines
from tauflow.stage import run_stage


def main() -> None:
    """Gather the means over tasks of all models and paradigms of ``params.yaml``."""
    with run_stage("summary", used=["suite", "models", "paradigms"]) as stage:
        params = stage.params
        results = pd.concat(read_tables(params.models, params.paradigms), ignore_index=True)
        write_text(layout.SUMMARY, summary_markdown(results, params.models, params.control))
        write_json(layout.METRICS, headlines(results, params.models))
        for model, paradigm, values in paradigm_headlines(results, params.models):
            stage.journal.paradigm(model, paradigm, values)
        stage.journal.artifact(layout.SUMMARY)
        print(f"{stage.name}: {layout.SUMMARY}")


if __name__ == "__main__":
    typer.run(main)
