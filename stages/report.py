"""report: every number in one table, and pages to look at."""

from pathlib import Path

import pandas as pd
import typer

from pipeline.files import missing, write_text
from pipeline.measurements import read_measurements, select, write_frame
from pipeline.report import Analyses, SearchCurves, render_page
from pipeline.report.seeds import is_among, pool
from stages.tables import read_tables
from tauflow import layout
from tauflow.stage import run_stage


def main() -> None:
    """Gather the measurements of all models and paradigms of ``params.yaml``."""
    with run_stage("report", used=["suite", "models", "paradigms"]) as stage:
        params = stage.params
        tables = read_tables(params.models, params.paradigms)
        tables += [
            read_measurements(layout.analyses(model, paradigm) / f"{benchmark}.csv")
            for model in params.models
            for paradigm in params.paradigms
            for benchmark in ("disentanglement", "interference")
        ]
        tables += [
            read_measurements(layout.geometry(model, recipe) / "geometry.csv")
            for model in params.models
            for recipe in params.recipes
        ]
        orders = [str(seed) for seed in params.incremental.orders]
        tables += [
            read_measurements(layout.incremental(model, paradigm, order) / "incremental.csv")
            for model in params.models
            for paradigm in params.paradigms
            for order in orders
        ]
        results = pd.concat(tables, ignore_index=True)
        searches = {
            model: {paradigm: _search_curves(results, model, paradigm, params.tasks) for paradigm in params.paradigms}
            for model in params.models
        }
        analyses = {model: _analyses(model, params.paradigms, params.recipes, orders) for model in params.models}
        retention = params.search.control_retention
        page = render_page(
            results, searches, analyses, _seeds(results), params.suite, params.tasks, params.control, retention
        )
        write_frame(layout.RESULTS, results)
        write_text(layout.REPORTS / "index.html", page)
        stage.journal.artifact(layout.REPORTS / "index.html")
        stage.journal.artifact(layout.RESULTS)


def _search_curves(results: pd.DataFrame, model: str, paradigm: str, tasks: list[str]) -> SearchCurves:
    directory = layout.measurements(model, paradigm)
    alphas = select(results, model=model, paradigm=paradigm, setting="tuned", metric="alpha")
    return SearchCurves(
        addition=_read_table(directory / "addition_curve.csv"),
        negation={task: _read_table(directory / "negation_curves" / f"{task}.csv") for task in tasks},
        addition_alpha=float(select(alphas, benchmark="addition")["value"].iloc[0]),
        negation_alphas=select(alphas, benchmark="negation").set_index("task")["value"].to_dict(),
    )


def _seeds(results: pd.DataFrame) -> pd.DataFrame | None:
    """The results of several seeds pooled, if `tauflow collect` has gathered them and these are among them."""
    frames = [read_measurements(path) for path in sorted(layout.SEEDS.glob("*.csv"))]
    if len(frames) < 2:
        return None
    if not is_among(results, frames):
        print(f"{layout.SEEDS}: left out, since these results are not among them; `tauflow collect` gathers them anew")
        return None
    return pool(frames)


def _analyses(model: str, paradigms: list[str], recipes: list[str], orders: list[str]) -> Analyses:
    return Analyses(
        {paradigm: _read_table(layout.analyses(model, paradigm) / "heatmaps.csv") for paradigm in paradigms},
        {recipe: _read_table(layout.geometry(model, recipe) / "orthogonality.csv") for recipe in recipes},
        _read_table(layout.localisation(model)),
        {paradigm: _incremental_curves(model, paradigm, orders) for paradigm in paradigms} if orders else {},
    )


def _incremental_curves(model: str, paradigm: str, orders: list[str]) -> pd.DataFrame:
    curves = [_read_table(layout.incremental(model, paradigm, order) / "curve.csv") for order in orders]
    return pd.concat([curve.assign(order=order) for order, curve in zip(orders, curves, strict=True)])


def _read_table(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise missing(path)
    return pd.read_csv(path)


if __name__ == "__main__":
    typer.run(main)
