"""Read the inputs of the report: curves, analyses, costs, and the origin of the numbers."""

import hashlib
from pathlib import Path

import pandas as pd

from artifacts import layout
from artifacts.catalogue import tables
from artifacts.tables import read_results
from pipeline.config import Parameters
from pipeline.errors import missing
from pipeline.io.files import read_json
from pipeline.measurements import read_frame, read_measurements, select
from pipeline.report.inputs import Analyses, Model, SearchCurves, Study, Timing
from pipeline.report.tables.cost import TimingRecord, paradigm_costs
from pipeline.report.tables.origins import Origins, SourceTable
from pipeline.report.tables.seeds import is_among, pool
from pipeline.tasks import TaskCard

# What recipes and merging methods see (design §9), in words.
SEES_OWN, SEES_OTHERS = "own task", "other tasks' unlabelled images"


def read_study(params: Parameters, results: pd.DataFrame) -> Study:
    """Return the results of all models and paradigms, with everything else that the report shows."""
    return Study(
        suite=params.suite,
        tasks=params.tasks,
        control=params.control,
        retention=params.search.control_retention,
        results=results,
        models={model: _model(results, model, params) for model in params.models},
        paradigms={name: params.paradigm[name] for name in params.paradigms},
        parameters=_shown_parameters(params),
        cards=[TaskCard.read(layout.task_card(task)) for task in (*params.tasks, params.control)],
        seeds=_seeds(params, results),
    )


def _model(results: pd.DataFrame, model: str, params: Parameters) -> Model:
    paradigms, orders = params.paradigms, [str(seed) for seed in params.incremental.orders]
    return Model(
        searches={paradigm: _search_curves(results, model, paradigm, params.tasks) for paradigm in paradigms},
        analyses=_analyses(params, model, orders),
        timing=_timing(model, params),
        origins=Origins(
            sources=[
                SourceTable(
                    written.title,
                    written.instance.name,
                    str(written.path),
                    written.instance.params,
                    _md5(written.path),
                )
                for written in tables(params, model)
            ],
            vectors={
                recipe: read_json(layout.geometry(model, recipe) / "vectors.json") for recipe in params.derived.recipes
            },
        ),
    )


def _shown_parameters(params: Parameters) -> dict[str, object]:
    """Return the parameters that numbers depend on, by section of ``params.yaml``."""
    sections = {
        "prepare": params.prepare,
        "finetune": params.finetune,
        "search": params.search,
        "intervals": params.intervals,
        "analysis": params.analysis,
        "disentanglement": params.disentanglement,
        "localisation": params.localisation,
        "merging_grid": params.merging_grid,
    }
    tables = {"recipe": params.recipe, "schedule": params.schedule, "paradigm": params.paradigm}
    return {
        "seed": params.seed,
        **{name: section.model_dump(mode="json") for name, section in sections.items()},
        "epochs": params.epochs,
        **{
            name: {key: section.model_dump(mode="json") for key, section in table.items()}
            for name, table in tables.items()
        },
        "arrivals": params.derived.arrivals,
    }


def _md5(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except FileNotFoundError:
        raise missing(path) from None


def _search_curves(results: pd.DataFrame, model: str, paradigm: str, tasks: list[str]) -> SearchCurves:
    directory = layout.measurements(model, paradigm)
    alphas = select(results, model=model, paradigm=paradigm, setting="tuned", metric="alpha")
    return SearchCurves(
        addition=read_frame(directory / "addition_curve.csv"),
        negation={task: read_frame(directory / "negation_curves" / f"{task}.csv") for task in tasks},
        addition_alpha=float(select(alphas, benchmark="addition")["value"].iloc[0]),
        negation_alphas=select(alphas, benchmark="negation").set_index("task")["value"].to_dict(),
    )


def _seeds(params: Parameters, results: pd.DataFrame) -> pd.DataFrame | None:
    """Return pooled results of several seeds, if `tauflow collect` has gathered them and they include these results."""
    frames = [read_measurements(path) for path in sorted(layout.SEEDS.glob("*.csv"))]
    if len(frames) < 2:
        return None
    headlines, merged = read_results(params, headlines=True), select(results, benchmark="merging")
    if not is_among(headlines, frames) and not is_among(pd.concat([headlines, merged], ignore_index=True), frames):
        print(f"{layout.SEEDS}: left out, since these results are not among them; run `tauflow collect` again")
        return None
    return pool(frames)


def _analyses(params: Parameters, model: str, orders: list[str]) -> Analyses:
    paradigms, recipes = params.paradigms, params.derived.recipes
    arriving = dict.fromkeys(entry.paradigm for entry in params.derived.incremental_evaluations.values())
    merged = params.derived.merging_evaluations.values()
    return Analyses(
        {
            paradigm: read_frame(layout.analyses(model, paradigm) / "heatmaps.csv", ("first", "second"))
            for paradigm in paradigms
        },
        {
            recipe: read_frame(layout.geometry(model, recipe) / "orthogonality.csv", ("layer", "vector", "data"))
            for recipe in recipes
        },
        read_frame(layout.localisation(model), ("first", "second")),
        {paradigm: _incremental_curves(model, paradigm, orders) for paradigm in arriving},
        {e.paradigm: _merging_methods(params, model, e.paradigm) for e in merged if e.model == model},
    )


def _merging_methods(params: Parameters, model: str, paradigm: str) -> pd.DataFrame:
    """Return a paradigm's merging methods, each with what the recipe or the method sees, and the largest α tried."""
    methods = read_frame(layout.merging_grid(model, paradigm) / "methods.csv", ("method", "sees"))
    largest = params.merging_grid.search.grid(params.paradigm[paradigm].evaluated_in).max
    methods["largest"] = [params.search.addition.max if m == "sum" else largest for m in methods["method"]]
    recipe = params.derived.recipe.get(params.paradigm[paradigm].recipe)
    if recipe is None or not recipe.sees_others:
        return methods
    both = [SEES_OTHERS if sees == SEES_OWN else f"{SEES_OTHERS}; {sees}" for sees in methods["sees"]]
    return methods.assign(sees=both)


def _incremental_curves(model: str, paradigm: str, orders: list[str]) -> pd.DataFrame:
    curves = [
        read_frame(layout.incremental(model, paradigm, order) / "curve.csv", ("task", "setting", "metric"))
        for order in orders
    ]
    return pd.concat([curve.assign(order=order) for order, curve in zip(orders, curves, strict=True)])


def _timing(model: str, params: Parameters) -> Timing | None:
    path = layout.training_steps(model)
    if not path.exists():
        return None
    record = TimingRecord.read(path)
    return Timing(
        record, paradigm_costs(record, {name: params.paradigm[name] for name in params.paradigms}, params.recipe)
    )
