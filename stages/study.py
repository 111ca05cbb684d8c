"""What the report is made from: curves, analyses, costs, and where the numbers come from."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from pipeline.config import Parameters
from pipeline.files import missing, read_json
from pipeline.measurements import read_measurements, select
from pipeline.report.cost import Record, paradigm_costs
from pipeline.report.inputs import Analyses, Model, SearchCurves, Study, Timing
from pipeline.report.origins import Origins, Source
from pipeline.report.seeds import is_among, pool
from pipeline.tasks import TaskCard
from tauflow import layout


def read_study(params: Parameters, results: pd.DataFrame) -> Study:
    """Read what belongs to the results of all models and paradigms.

    Raises:
        UserError: a file is missing or damaged.
    """
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
        seeds=_seeds(results),
    )


def analysis_tables(params: Parameters) -> Iterator[Path]:
    """Where the measurements of the analyses lie."""
    orders = [str(seed) for seed in params.incremental.orders]
    for model in params.models:
        for paradigm in params.paradigms:
            for benchmark in ("disentanglement", "interference"):
                yield layout.analyses(model, paradigm) / f"{benchmark}.csv"
    for model in params.models:
        for recipe in params.recipes:
            yield layout.geometry(model, recipe) / "geometry.csv"
    for model in params.models:
        for paradigm in params.paradigms:
            for order in orders:
                yield layout.incremental(model, paradigm, order) / "incremental.csv"


def _model(results: pd.DataFrame, model: str, params: Parameters) -> Model:
    paradigms, orders = params.paradigms, [str(seed) for seed in params.incremental.orders]
    return Model(
        searches={paradigm: _search_curves(results, model, paradigm, params.tasks) for paradigm in paradigms},
        analyses=_analyses(model, paradigms, params.recipes, orders),
        timing=_timing(model, params),
        origins=Origins(
            sources=[
                Source(numbers, instance, str(path), _md5(path))
                for numbers, instance, path in _sources(model, paradigms, params.recipes, orders)
            ],
            vectors={recipe: read_json(layout.geometry(model, recipe) / "vectors.json") for recipe in params.recipes},
        ),
    )


def _shown_parameters(params: Parameters) -> dict[str, object]:
    """What numbers depend on, as ``params.yaml`` has it."""
    sections = {
        "prepare": params.prepare,
        "finetune": params.finetune,
        "search": params.search,
        "intervals": params.intervals,
        "analysis": params.analysis,
        "disentanglement": params.disentanglement,
        "localisation": params.localisation,
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
        "arrivals": params.arrivals,
    }


def _sources(
    model: str, paradigms: list[str], recipes: list[str], orders: list[str]
) -> Iterator[tuple[str, str, Path]]:
    """What numbers are, which stage instance wrote them, and where."""
    for paradigm in paradigms:
        instance = f"{model}-{paradigm}"
        for benchmark in ("single_task", "addition", "negation"):
            table = layout.measurements(model, paradigm) / f"{benchmark}.csv"
            yield f"{benchmark.replace('_', '-')}, {paradigm}", f"{benchmark}@{instance}", table
        table = layout.measurements(model, paradigm) / "addition_curve.csv"
        yield f"α search, {paradigm}", f"alpha_search@{instance}", table
        for benchmark, words in (("disentanglement", "ξ"), ("interference", "τJp and drop")):
            yield (
                f"{words}, {paradigm}",
                f"{benchmark}@{instance}",
                layout.analyses(model, paradigm) / f"{benchmark}.csv",
            )
        table = layout.analyses(model, paradigm) / "heatmaps.csv"
        yield f"heatmaps, {paradigm}", f"disentanglement@{instance}", table
        for order in orders:
            table = layout.incremental(model, paradigm, order) / "incremental.csv"
            yield f"incremental, {paradigm}, order {order}", f"incremental@{instance}-{order}", table
    yield "differences", f"comparison@{model}", layout.comparison(model)
    for recipe in recipes:
        yield f"cosines, {recipe}", f"geometry@{model}-{recipe}", layout.geometry(model, recipe) / "geometry.csv"
    yield "NTK", f"localisation@{model}", layout.localisation(model)


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


def _timing(model: str, params: Parameters) -> Timing | None:
    path = layout.training_steps(model)
    if not path.exists():
        return None
    record = Record.read(path)
    return Timing(
        record, paradigm_costs(record, {name: params.paradigm[name] for name in params.paradigms}, params.recipe)
    )
