"""Studies of random numbers of any size, with everything that a report shows."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from pipeline.config import OtherTasks, Paradigm, Recipe, RegulariserSettings
from pipeline.measurements import Estimate, Measurement, Recorder, Setting, Subject, to_frame
from pipeline.report.inputs import Analyses, Model, SearchCurves, Study, Timing
from pipeline.report.tables.cost import StepTiming, TimingRecord, paradigm_costs
from pipeline.report.tables.origins import Origins, SourceTable
from pipeline.report.tables.seeds import pool
from pipeline.tasks import TaskCard

CONTROL = "control"
ALPHAS = [0.0, 0.5, 1.0]
GRID = [-1.0, 0.0, 1.0]
# By merging method; up to 2 was tried.
MERGED_ALPHAS = {"sum": 0.5, "ties": 1.25, "iso_c": 2.0}
RECIPES = {
    "standard": Recipe(trainable="all", trained_in="weight", regulariser=None, extension=None, start=None),
    "ntk": Recipe(trainable="all", trained_in="tangent", regulariser=None, extension=None, start=None),
    "tau_jp": Recipe(
        trainable="all",
        trained_in="tangent",
        regulariser=RegulariserSettings(
            name="tau_jp",
            weight=0.1,
            options={"norm": "l2"},
            others=OtherTasks(tasks=["a", "b"], control=None, arrivals=None, mode="cyclic", batch_size=2),
        ),
        extension=None,
        start=None,
    ),
    "biases": Recipe(trainable="biases", trained_in="weight", regulariser=None, extension=None, start=None),
}
PARADIGMS = {
    "standard": Paradigm(recipe="standard", merging=None, evaluated_in="weight", negation_grid=None),
    "posthoc": Paradigm(recipe="standard", merging=None, evaluated_in="tangent", negation_grid=None),
    "ntk": Paradigm(recipe="ntk", merging=None, evaluated_in="tangent", negation_grid=None),
    "tau_jp": Paradigm(recipe="tau_jp", merging=None, evaluated_in="tangent", negation_grid=None),
    "biases": Paradigm(recipe="biases", merging=None, evaluated_in="weight", negation_grid=None),
}


def make_record(model: str) -> TimingRecord:
    """Steps of 100 ms of CPU time for standard, 150 and 200 for the others."""
    steps = {"standard": 0.1, "tangent": 0.15, "tau_jp cyclic": 0.2}
    return TimingRecord(
        model=model,
        batch=10,
        size=32,
        threads=1,
        device="cpu",
        precision="fp32",
        other_batch=2,
        other_tasks=8,
        torch="2",
        machine="a machine",
        variants={
            name: StepTiming(seconds=3 * s, cpu_seconds=s, images_per_second=10 / s, step_bytes=2**21)
            for name, s in steps.items()
        },
    )


def make_study(
    models: Sequence[str] = ("small",),
    paradigms: Sequence[str] = ("standard", "posthoc", "tau_jp"),
    tasks: Sequence[str] = ("a", "b", "c"),
    orders: Sequence[str] = ("0",),
    seeds: int = 1,
    timed: bool = True,
    control: str = CONTROL,
    methods: Sequence[str] = ("sum", "ties", "iso_c"),
) -> Study:
    """A study; the numbers of a seed are the same whatever else is in it.

    Args:
        models: the last one has no record of its steps unless it is the only one.
        paradigms: of :data:`PARADIGMS`.
        tasks: of the task vectors.
        orders: of incremental learning.
        seeds: of the first are the results.
        timed: whether there is any record.
        control: the control task.
        methods: merging methods.
    """
    frames = [_results(models, paradigms, tasks, orders, seed, control, methods) for seed in range(seeds)]
    results = frames[0]
    return Study(
        suite="random",
        tasks=list(tasks),
        control=control,
        retention=0.95,
        results=results,
        models={
            model: Model(
                searches={name: _search(results, model, name, tasks) for name in paradigms},
                analyses=_analyses(paradigms, tasks, orders, methods),
                timing=_timing(model, paradigms) if timed and (len(models) == 1 or model != models[-1]) else None,
                origins=_origins(model, paradigms, tasks),
            )
            for model in models
        },
        paradigms={name: PARADIGMS[name] for name in paradigms},
        parameters={"seed": 0, "search": {"control_retention": 0.95}},
        cards=[_card(task) for task in (*tasks, control)],
        seeds=pool(frames) if seeds > 1 else None,
    )


def recipes_of(paradigms: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(PARADIGMS[name].recipe for name in paradigms))


def _results(
    models: Sequence[str],
    paradigms: Sequence[str],
    tasks: Sequence[str],
    orders: Sequence[str],
    seed: int,
    control: str,
    methods: Sequence[str],
) -> pd.DataFrame:
    rows: list[Measurement] = []
    for i, model in enumerate(models):
        for j, paradigm in enumerate(paradigms):
            random = np.random.default_rng([seed, i, j])
            recorder = Recorder(model, seed, paradigm=paradigm)
            rows += _accuracies(recorder, random, tasks, control)
            for reference in paradigms[:j]:
                rows += _differences(recorder, random, reference)
            rows += _pairs(recorder, random, tasks, control)
            for order in orders:
                rows += _incremental(recorder, random, f"order_{order}")
            for position, method in enumerate(methods):
                rows += _merging(replace(recorder, method=method), random, tasks, methods[:position])
        for recipe in recipes_of(paradigms):
            random = np.random.default_rng([seed, i])
            recorder = Recorder(model, seed, recipe=recipe)
            for first, second in itertools.combinations(tasks, 2):
                cosine = float(random.uniform(-0.2, 0.2))
                rows.append(recorder.number("cosine", "none", Subject.of_pair(first, second), "cosine", cosine))
    return to_frame(rows)


def _estimate(random: np.random.Generator, low: float = 0.3, high: float = 0.9) -> Estimate:
    value = float(random.uniform(low, high))
    return Estimate(value, value - 0.05, value + 0.04, 100)


def _accuracies(
    recorder: Recorder, random: np.random.Generator, tasks: Sequence[str], control: str
) -> list[Measurement]:
    rows = []
    kinds: list[tuple[str, Setting, str]] = [
        ("zero_shot", "none", "accuracy"),
        ("single_task", "none", "accuracy"),
        ("addition", "tuned", "accuracy"),
        ("addition", "tuned", "normalized"),
        ("addition", "alpha_1", "accuracy"),
        ("addition", "alpha_1", "normalized"),
        ("negation", "tuned", "target"),
        ("negation", "tuned", "control"),
    ]
    for benchmark, setting, metric in kinds:
        names = [*tasks, control] if benchmark == "zero_shot" else tasks
        subjects = [*map(Subject.of_task, names), Subject.of_mean()]
        rows += [recorder.estimate(benchmark, setting, subject, metric, _estimate(random)) for subject in subjects]
    rows.append(recorder.number("addition", "tuned", Subject.of_mean(), "alpha", 0.5))
    for position, task in enumerate(tasks):
        rows.append(recorder.number("negation", "tuned", Subject.of_task(task), "alpha", ALPHAS[position % 3]))
        rows.append(recorder.number("negation", "none", Subject.of_task(task), "near_chance", float(position == 0)))
    return rows


def _differences(recorder: Recorder, random: np.random.Generator, reference: str) -> list[Measurement]:
    kinds: list[tuple[str, Setting, str]] = [
        ("single_task", "none", "accuracy"),
        ("addition", "tuned", "accuracy"),
        ("addition", "alpha_1", "accuracy"),
        ("addition", "tuned", "normalized"),
        ("addition", "alpha_1", "normalized"),
        ("negation", "tuned", "target"),
    ]
    return [
        recorder.estimate(
            benchmark, setting, Subject.of_mean(), f"{metric}_minus_{reference}", _estimate(random, -0.1, 0.1)
        )
        for benchmark, setting, metric in kinds
    ]


def _pairs(recorder: Recorder, random: np.random.Generator, tasks: Sequence[str], control: str) -> list[Measurement]:
    rows = []
    for vector, data in itertools.product(tasks, [*tasks, control]):
        for metric in ("tau_jp", "drop"):
            rows.append(
                recorder.estimate("tau_jp", "none", Subject.of_pair(vector, data), metric, _estimate(random, 0.01, 2))
            )
    for metric in ("tau_jp", "drop", "rank_correlation"):
        rows.append(recorder.estimate("tau_jp", "none", Subject.of_mean(), metric, _estimate(random)))
    for metric in ("error", "error_alpha_1", "divergence"):
        rows.append(recorder.estimate("disentanglement", "none", Subject.of_mean(), metric, _estimate(random)))
    rows.append(recorder.number("disentanglement", "none", Subject.of_mean(), "area", 0.25))
    return rows


def _incremental(recorder: Recorder, random: np.random.Generator, order: str) -> list[Measurement]:
    settings: list[Setting] = ["tuned", "alpha_1"]
    rows = []
    for setting, metric in itertools.product(settings, ("accuracy", "normalized")):
        rows.append(recorder.estimate("incremental", setting, Subject.of_order(order), metric, _estimate(random)))
        rows.append(recorder.number("incremental", setting, Subject.of_order(order), f"{metric}_over_arrivals", 0.5))
    return rows


def _merging(
    recorder: Recorder, random: np.random.Generator, tasks: Sequence[str], references: Sequence[str]
) -> list[Measurement]:
    settings: list[Setting] = ["tuned", "alpha_1"]
    rows = [recorder.number("merging", "tuned", Subject.of_mean(), "alpha", MERGED_ALPHAS[recorder.method])]
    for setting, metric in itertools.product(settings, ("accuracy", "normalized")):
        for subject in (*map(Subject.of_task, tasks), Subject.of_mean()):
            rows.append(recorder.estimate("merging", setting, subject, metric, _estimate(random)))
        for reference in references:
            difference = _estimate(random, -0.1, 0.1)
            rows.append(
                recorder.estimate("merging", setting, Subject.of_mean(), f"{metric}_minus_{reference}", difference)
            )
    return rows


def _search(results: pd.DataFrame, model: str, paradigm: str, tasks: Sequence[str]) -> SearchCurves:
    random = np.random.default_rng(7)
    curve = pd.DataFrame({"alpha": ALPHAS, **{c: random.uniform(0.3, 0.9, 3) for c in ("accuracy", "normalized")}})
    negation = {
        task: pd.DataFrame({"alpha": ALPHAS, **{c: random.uniform(0.3, 0.9, 3) for c in ("target", "control")}})
        for task in tasks
    }
    return SearchCurves(curve, negation, 0.5, {task: ALPHAS[i % 3] for i, task in enumerate(tasks)})


def _analyses(
    paradigms: Sequence[str], tasks: Sequence[str], orders: Sequence[str], methods: Sequence[str]
) -> Analyses:
    random = np.random.default_rng(11)
    pairs = list(itertools.combinations(tasks, 2))
    heatmaps = {
        paradigm: pd.concat(
            pd.DataFrame(itertools.product(GRID, repeat=2), columns=["alpha_1", "alpha_2"]).assign(
                first=first, second=second, error=random.uniform(0, 1, 9), divergence=random.uniform(0, 3, 9)
            )
            for first, second in pairs
        )
        for paradigm in paradigms
    }
    layers = ["transformer.resblocks.0.attn.in_proj_weight", "proj"]
    orthogonality = {
        recipe: pd.DataFrame(itertools.product(layers, tasks, tasks), columns=["layer", "vector", "data"]).assign(
            response=0.1
        )
        for recipe in recipes_of(paradigms)
    }
    localisation = pd.DataFrame(
        [
            (first, second, k, float(random.uniform(0, 1)), weights)
            for weights in ("pretrained", "random")
            for first, second in pairs
            for k in range(3)
        ],
        columns=["first", "second", "eigenfunction", "first_energy", "weights"],
    )
    columns = ["arrivals", "setting", "metric", "order"]
    curve = pd.DataFrame(
        itertools.product(range(1, len(tasks) + 1), ["tuned", "alpha_1"], ["accuracy", "normalized"], orders),
        columns=columns,
    ).assign(value=0.7, ci_low=0.6, ci_high=0.8)
    incremental = dict.fromkeys(paradigms, curve) if orders else {}
    merging = pd.DataFrame({"method": methods, "sees": "own task", "largest": 2.0})
    return Analyses(heatmaps, orthogonality, localisation, incremental, dict.fromkeys(paradigms, merging))


def _timing(model: str, paradigms: Sequence[str]) -> Timing:
    record = make_record(model)
    return Timing(record, paradigm_costs(record, {name: PARADIGMS[name] for name in paradigms}, RECIPES))


def _origins(model: str, paradigms: Sequence[str], tasks: Sequence[str]) -> Origins:
    sources = [
        SourceTable("addition", f"addition@{model}-{paradigms[0]}", "data/addition.csv", ["seed", "tasks"], "0" * 32)
    ]
    sources.append(SourceTable("NTK", f"localisation@{model}", "data/localisation.csv", ["tasks"], "1" * 32))
    vectors = {
        recipe: {task: {"space": "weight", "seed": 0, "base_sha256": "b" * 64, "code": "c" * 64} for task in tasks}
        for recipe in recipes_of(paradigms)
    }
    return Origins(sources, vectors)


def _card(task: str) -> TaskCard:
    return TaskCard(
        name=task,
        version=1,
        description=task,
        classes=["x", "y"],
        templates=["{}"],
        counts={"train": 4, "val": 2, "test": 3},
        image_size=(32, 32),
        source="random",
        licence="a licence",
        citation="none",
    )
