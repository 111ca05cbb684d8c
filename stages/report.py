"""report: every number in one table, and pages to look at."""

from pathlib import Path

import pandas as pd
import typer

from pipeline.files import missing, write_text
from pipeline.measurements import read_measurements, select, write_frame
from pipeline.report import SearchCurves, render_page, summary_markdown
from tauflow import layout
from tauflow.stage import run_stage


def main() -> None:
    """Gather the measurements of all models and paradigms of ``params.yaml``."""
    with run_stage("report", used=["suite", "models", "paradigms"]) as stage:
        params = stage.params
        tables = [
            read_measurements(layout.measurements(model, paradigm) / f"{benchmark}.csv")
            for model in params.models
            for paradigm in params.paradigms
            for benchmark in ("single_task", "addition", "negation")
        ]
        tables += [read_measurements(layout.comparison(model)) for model in params.models]
        results = pd.concat(tables, ignore_index=True)
        searches = {
            model: {paradigm: _search_curves(results, model, paradigm, params.tasks) for paradigm in params.paradigms}
            for model in params.models
        }
        page = render_page(
            results, searches, params.suite, params.tasks, params.control, params.search.control_retention
        )
        write_frame(layout.RESULTS, results)
        write_text(layout.REPORTS / "summary.md", summary_markdown(results, params.models, params.control))
        write_text(layout.REPORTS / "index.html", page)
        stage.journal.artifact(layout.REPORTS / "index.html")
        stage.journal.artifact(layout.RESULTS)


def _search_curves(results: pd.DataFrame, model: str, paradigm: str, tasks: list[str]) -> SearchCurves:
    directory = layout.measurements(model, paradigm)
    alphas = select(results, model=model, paradigm=paradigm, setting="tuned", metric="alpha")
    return SearchCurves(
        addition=_read_curve(directory / "addition_curve.csv"),
        negation={task: _read_curve(directory / "negation_curves" / f"{task}.csv") for task in tasks},
        addition_alpha=float(select(alphas, benchmark="addition")["value"].iloc[0]),
        negation_alphas=select(alphas, benchmark="negation").set_index("task")["value"].to_dict(),
    )


def _read_curve(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise missing(path)
    return pd.read_csv(path)


if __name__ == "__main__":
    typer.run(main)
