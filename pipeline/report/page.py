"""``index.html``: one self-contained page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import jinja2
import pandas as pd

from pipeline.measurements import select
from pipeline.report import analyses as figures
from pipeline.report.figures import addition_curves, negation_curves
from pipeline.report.seeds import seeds_comparison_table, seeds_table
from pipeline.report.tables import (
    analysis_table,
    comparison_table,
    incremental_table,
    per_task_table,
    results_table,
    task_table,
)


@dataclass(frozen=True)
class SearchCurves:
    """What the coefficient search of one paradigm left behind."""

    addition: pd.DataFrame
    negation: Mapping[str, pd.DataFrame]
    addition_alpha: float
    negation_alphas: Mapping[str, float]


@dataclass(frozen=True)
class Analyses:
    """Tables of a model's analyses: heatmaps by paradigm, responses of layers by recipe, NTK eigenfunctions.

    incremental: by paradigm, the curves of all orders in one table, which a column ``order`` tells apart; may be empty.
    """

    heatmaps: Mapping[str, pd.DataFrame]
    orthogonality: Mapping[str, pd.DataFrame]
    localisation: pd.DataFrame
    incremental: Mapping[str, pd.DataFrame]


def render_page(
    results: pd.DataFrame,
    searches: Mapping[str, Mapping[str, SearchCurves]],
    analyses: Mapping[str, Analyses],
    seeds: pd.DataFrame | None,
    suite: str,
    tasks: Sequence[str],
    control: str,
    retention: float,
) -> str:
    """The page for the results of a suite.

    Args:
        results: all measurements.
        searches: by model, then paradigm.
        analyses: by model.
        seeds: measurements pooled over seeds, if there are several.
        suite: its name.
        tasks: the tasks of the task vectors.
        control: the control task.
        retention: the share of the control accuracy that negation keeps.
    """
    models = {}
    for model, paradigms in searches.items():
        models[model] = {
            "table": _html(results_table(results, model, control)),
            "comparison": _html(comparison_table(results, model)) if len(paradigms) > 1 else None,
            "per_task": _html(per_task_table(results, model, tasks)),
            "addition": addition_curves(
                {name: search.addition for name, search in paradigms.items()},
                {name: search.addition_alpha for name, search in paradigms.items()},
            ),
            "seeds": _html(seeds_table(seeds, model)) if seeds is not None else None,
            "seeds_comparison": _html(seeds_comparison_table(seeds, model))
            if seeds is not None and len(paradigms) > 1
            else None,
            "analyses": _analyses(select(results, model=model), model, analyses[model], tasks, control),
            "paradigms": {
                name: {
                    "tasks": _html(task_table(results, model, name, tasks)),
                    "negation": negation_curves(
                        search.negation,
                        search.negation_alphas,
                        retention * _pretrained_control(search),
                    ),
                }
                for name, search in paradigms.items()
            },
        }
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(files("pipeline.report").joinpath("page.html").read_text("utf-8"))
    return template.render(suite=suite, models=models, control=control, retention=retention)


def _analyses(
    results: pd.DataFrame, model: str, found: Analyses, tasks: Sequence[str], control: str
) -> dict[str, object]:
    paradigms, recipes = list(found.heatmaps), list(found.orthogonality)
    return {
        "table": _html(analysis_table(results, model)),
        "heatmaps": {paradigm: figures.heatmaps(points, tasks) for paradigm, points in found.heatmaps.items()},
        "interference": figures.interference(results, paradigms, tasks, control),
        "interference_scatter": figures.interference_scatter(results, paradigms, tasks),
        "cosines": figures.cosines(results, recipes, tasks),
        "orthogonality": figures.orthogonality(found.orthogonality),
        "localisation": figures.localisation(found.localisation),
        "incremental": figures.incremental(found.incremental) if found.incremental else None,
        "incremental_table": _html(incremental_table(results, model)) if found.incremental else None,
        "single_task": figures.single_task_scatter(results, paradigms, tasks) if len(paradigms) > 1 else None,
    }


def _pretrained_control(search: SearchCurves) -> float:
    """Control accuracy at α = 0, which every negation curve starts with."""
    return float(next(iter(search.negation.values()))["control"].iloc[0])


def _html(table: pd.DataFrame) -> str:
    return table.reset_index().to_html(index=False, border=0)
