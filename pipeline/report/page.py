"""``index.html``: one self-contained page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import jinja2
import pandas as pd

from pipeline.report.figures import addition_curves, negation_curves
from pipeline.report.tables import comparison_table, results_table, task_table


@dataclass(frozen=True)
class SearchCurves:
    """What the coefficient search of one paradigm left behind."""

    addition: pd.DataFrame
    negation: Mapping[str, pd.DataFrame]
    addition_alpha: float
    negation_alphas: Mapping[str, float]


def render_page(
    results: pd.DataFrame,
    searches: Mapping[str, Mapping[str, SearchCurves]],
    suite: str,
    tasks: Sequence[str],
    control: str,
    retention: float,
) -> str:
    """The page for the results of a suite; ``searches`` is by model, then paradigm."""
    models = {}
    for model, paradigms in searches.items():
        models[model] = {
            "table": _html(results_table(results, model, control)),
            "comparison": _html(comparison_table(results, model)) if len(paradigms) > 1 else None,
            "addition": addition_curves(
                {name: search.addition for name, search in paradigms.items()},
                {name: search.addition_alpha for name, search in paradigms.items()},
            ),
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


def _pretrained_control(search: SearchCurves) -> float:
    """Control accuracy at α = 0, which every negation curve starts with."""
    return float(next(iter(search.negation.values()))["control"].iloc[0])


def _html(table: pd.DataFrame) -> str:
    return table.reset_index().to_html(index=False, border=0)
