"""The results tables: one row per paradigm, with intervals, and paired differences between paradigms."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.measurements import MEAN, select
from pipeline.report.tables.formats import Marked, percent, to_markdown

# Formats the number in a table of one row.
Cell = Callable[[pd.DataFrame], str]

# Column title → benchmark, setting, metric of the mean over tasks.
COLUMNS = {
    "single-task": ("single_task", "none", "accuracy"),
    "addition, tuned α": ("addition", "tuned", "accuracy"),
    "normalised": ("addition", "tuned", "normalized"),
    "addition, α = 1": ("addition", "alpha_1", "accuracy"),
    "normalised, α = 1": ("addition", "alpha_1", "normalized"),
    "negation: target": ("negation", "tuned", "target"),
    "negation: control": ("negation", "tuned", "control"),
}

# Columns in which the lowest number is best.
LOWER_IS_BETTER = ("negation: target",)

# Columns with a constraint of the search rather than a result: none of their numbers is best.
CONSTRAINTS = ("negation: control",)

# Name in `dvc exp show` → column title.
HEADLINES = {
    "single_task": "single-task",
    "addition": "addition, tuned α",
    "normalized": "normalised",
    "normalized_alpha_1": "normalised, α = 1",
    "target": "negation: target",
    "control": "negation: control",
}

# Column title → benchmark, metric of an analysis, and whether the number is a share, which is shown in percent.
ANALYSES = {
    "ξ, mean over the grid": ("disentanglement", "error", True),
    "ξ at α₁ = α₂ = 1": ("disentanglement", "error_alpha_1", True),
    "grid with ξ < 5 %": ("disentanglement", "area", True),
    "ξ of representations, nats": ("disentanglement", "divergence", False),
    "τJp": ("tau_jp", "tau_jp", False),
    "drop, points": ("tau_jp", "drop", True),
    "rank correlation": ("tau_jp", "rank_correlation", False),
}

# Column title → setting, metric of incremental learning.
INCREMENTAL = {
    "addition, tuned α": ("tuned", "accuracy"),
    "normalised": ("tuned", "normalized"),
    "normalised, over arrivals": ("tuned", "normalized_over_arrivals"),
    "addition, α = 1": ("alpha_1", "accuracy"),
    "normalised, α = 1": ("alpha_1", "normalized"),
    "normalised, α = 1, over arrivals": ("alpha_1", "normalized_over_arrivals"),
}

# Metric with differences between paradigms → words.
DIFFERENCES = {"accuracy": "accuracy", "normalized": "normalised"}


def results_table(results: pd.DataFrame, model: str, control: str) -> pd.DataFrame:
    """Return means over tasks of one model: the zero-shot row, then one row per paradigm; cells are formatted text."""
    of_model = select(results, model=model)
    rows = paradigm_rows(of_model, percent, lambda alpha: f"{alpha['value'].iloc[0]:.2f}")
    return titled_table({"zero-shot": _zero_shot_row(of_model, control), **rows}, "paradigm")


def best_cells(results: pd.DataFrame, model: str, table: pd.DataFrame) -> Marked:
    """Return the rows of a results table to be marked in each column: see :func:`distinguished`."""
    rows = select(results, model=model)
    names = {title: distinguished(rows, title) for title in COLUMNS}
    return {
        title: {row for row, name in enumerate(table.index) if name in best} for title, best in names.items() if best
    }


def distinguished(of_model: pd.DataFrame, title: str) -> set[str]:
    """Return the paradigms that are not distinguishable from the best one in a column, the best one included.

    A paradigm is distinguishable if the interval of its paired difference from the best excludes 0. Tables without
    that difference (made before all pairs were compared) are judged by their intervals, which must not overlap.

    Returns:
        the names; none in a column that is a constraint, and none if there is one paradigm only.
    """
    benchmark, setting, metric = COLUMNS[title]
    means = select(of_model, scope=MEAN, benchmark=benchmark, setting=setting)
    if title in CONSTRAINTS or len(select(means, metric=metric)) < 2:
        return set()
    return indistinguishable(means, metric, "paradigm", title in LOWER_IS_BETTER)


def indistinguishable(means: pd.DataFrame, metric: str, by: str, lowest: bool = False) -> set[str]:
    """Return the names in a column of a table that are not distinguishable from the best one, that one included.

    Args:
        means: means of one setting, with paired differences between the names.
        metric: the one by which the best is chosen.
        by: the column of the names, ``paradigm`` or ``method``.
        lowest: whether the lowest is the best.
    """
    rows = select(means, metric=metric).set_index(by)
    values = {str(name): float(value) for name, value in zip(rows.index, rows["value"], strict=True)}
    best = (min if lowest else max)(values, key=values.__getitem__)
    return {name for name in values if name == best or _tied(means, rows, metric, by, name, best)}


def _tied(means: pd.DataFrame, rows: pd.DataFrame, metric: str, by: str, name: str, best: str) -> bool:
    difference = _difference(means, metric, by, name, best)
    if difference is not None:
        return difference["ci_low"] <= 0 <= difference["ci_high"]
    low, high = rows["ci_low"].to_dict(), rows["ci_high"].to_dict()
    return low[name] <= high[best] and high[name] >= low[best]


def marking(results: pd.DataFrame, model: str) -> str:
    """Return the sentence that explains bold type in a model's results table."""
    means = select(results, model=model, scope=MEAN)
    paired = True
    for title in COLUMNS.keys() - set(CONSTRAINTS):
        benchmark, setting, metric = COLUMNS[title]
        rows = select(means, benchmark=benchmark, setting=setting)
        names = list(dict.fromkeys(select(rows, metric=metric)["paradigm"]))
        paired &= all(
            _difference(rows, metric, "paradigm", a, b) is not None for a, b in itertools.combinations(names, 2)
        )
    how = "whose paired difference from it has a 95 % interval that includes 0"
    if not paired:
        how += ", or, where that difference is not in the results, whose own interval overlaps its interval"
    return f"Bold: the best paradigm of a column and those {how}. The control is a constraint and has no best."


def title_of(benchmark: str, setting: str, metric: str) -> str:
    """Return the title of the column that shows a measurement."""
    return next(title for title, shown in COLUMNS.items() if shown == (benchmark, setting, metric))


def headlines(results: pd.DataFrame, models: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the headline means over tasks by which experiments are compared, by model, then paradigm."""
    by_model: dict[str, dict[str, dict[str, float]]] = {}
    for model in models:
        of_model = select(results, model=model, scope=MEAN)
        for paradigm in dict.fromkeys(select(of_model, benchmark="single_task")["paradigm"]):
            by_model.setdefault(model, {})[str(paradigm)] = {
                name: _headline(select(of_model, paradigm=paradigm), *COLUMNS[title])
                for name, title in HEADLINES.items()
            }
    return by_model


def comparison_table(results: pd.DataFrame, model: str) -> pd.DataFrame:
    """Return paired differences of addition from the first paradigm, one row per other paradigm; cells are text."""
    rows = difference_rows(select(results, model=model), lambda found: percent(found, signed=True))
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "addition: difference"
    return table


def paradigm_rows(of_model: pd.DataFrame, cell: Cell, alpha_cell: Cell) -> dict[str, dict[str, str]]:
    """Return the means over tasks of every evaluated paradigm, by column title."""
    rows = {}
    for paradigm in dict.fromkeys(select(of_model, benchmark="single_task")["paradigm"]):
        of_paradigm = select(of_model, paradigm=paradigm, scope=MEAN)
        rows[str(paradigm)] = {
            title: cell(select(of_paradigm, benchmark=benchmark, setting=setting, metric=metric))
            for title, (benchmark, setting, metric) in COLUMNS.items()
        }
        rows[str(paradigm)]["α"] = alpha_cell(
            select(of_paradigm, benchmark="addition", setting="tuned", metric="alpha")
        )
    return rows


def difference_rows(of_model: pd.DataFrame, cell: Cell) -> dict[str, dict[str, str]]:
    """Return the differences of addition from the first paradigm, by column title."""
    means = select(of_model, scope=MEAN, benchmark="addition")
    paradigms = list(dict.fromkeys(select(of_model, benchmark="single_task")["paradigm"]))
    rows: dict[str, dict[str, str]] = {}
    for paradigm in paradigms[1:]:
        row = rows[f"{paradigm} − {paradigms[0]}"] = {}
        for metric, words in DIFFERENCES.items():
            differences = select(means, metric=f"{metric}_minus_{paradigms[0]}", paradigm=paradigm)
            row[f"{words}, tuned α"] = cell(select(differences, setting="tuned"))
            row[f"{words}, α = 1"] = cell(select(differences, setting="alpha_1"))
    return rows


def titled_table(rows: dict[str, dict[str, str]], name: str) -> pd.DataFrame:
    """Return rows of :func:`paradigm_rows` as a table with its columns in order."""
    table = pd.DataFrame.from_dict(rows, orient="index").fillna("")
    table.index.name = name
    return table.reindex(columns=["single-task", "α", *list(COLUMNS)[1:]])


def per_task_table(results: pd.DataFrame, model: str, tasks: Sequence[str]) -> pd.DataFrame:
    """Return addition with one α per task vector, for the paradigms that searched them; cells are formatted text."""
    per_task = select(results, model=model, benchmark="addition", setting="per_task")
    rows = {}
    for paradigm in dict.fromkeys(per_task["paradigm"]):
        of_paradigm = select(per_task, paradigm=paradigm)
        means = select(of_paradigm, scope=MEAN)
        alphas = select(of_paradigm, scope="task", metric="alpha").set_index("task")["value"]
        rows[str(paradigm)] = {
            "accuracy": percent(select(means, metric="accuracy")),
            "normalised": percent(select(means, metric="normalized")),
            **{task: f"{alphas[task]:.2f}" for task in tasks},
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "one α per task"
    return table


def analysis_table(results: pd.DataFrame, model: str) -> pd.DataFrame:
    """Return disentanglement and interference of one model: means over pairs, one row per paradigm; cells are text."""
    means = select(results, model=model, scope=MEAN)
    rows = {}
    for paradigm in dict.fromkeys(select(means, benchmark="disentanglement")["paradigm"]):
        rows[str(paradigm)] = {
            title: _number(select(means, paradigm=paradigm, benchmark=benchmark, metric=metric), share)
            for title, (benchmark, metric, share) in ANALYSES.items()
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "paradigm"
    return table


def incremental_table(results: pd.DataFrame, model: str) -> pd.DataFrame:
    """Return incremental learning after the last arrival, one row per paradigm and order; cells are text."""
    orders = select(results, model=model, benchmark="incremental")
    rows = [
        {
            "paradigm": paradigm,
            "order": order,
            **{
                title: _number(select(orders, paradigm=paradigm, order=order, setting=setting, metric=metric), True)
                for title, (setting, metric) in INCREMENTAL.items()
            },
        }
        for paradigm, order in dict.fromkeys(zip(orders["paradigm"], orders["order"], strict=True))
    ]
    return pd.DataFrame(rows).set_index(["paradigm", "order"])


def task_table(results: pd.DataFrame, model: str, paradigm: str, tasks: Sequence[str]) -> pd.DataFrame:
    """Return zero-shot, single-task, addition and negation of one paradigm, one row per task; cells are text."""
    rows = select(results, model=model, paradigm=paradigm, scope="task")
    table = {}
    for task in tasks:
        of_task = select(rows, task=task)
        near_chance = select(of_task, benchmark="negation", metric="near_chance")["value"].iloc[0]
        alpha = select(of_task, benchmark="negation", metric="alpha")["value"].iloc[0]
        table[task + (" †" if near_chance else "")] = {
            "zero-shot": percent(select(of_task, benchmark="zero_shot")),
            "single-task": percent(select(of_task, benchmark="single_task", metric="accuracy")),
            "addition, tuned α": percent(select(of_task, benchmark="addition", setting="tuned", metric="accuracy")),
            "addition, α = 1": percent(select(of_task, benchmark="addition", setting="alpha_1", metric="accuracy")),
            "negation: target": percent(select(of_task, benchmark="negation", setting="tuned", metric="target")),
            "negation: control": percent(select(of_task, benchmark="negation", setting="tuned", metric="control")),
            "negation: α": f"{alpha:.2f}",
        }
    frame = pd.DataFrame.from_dict(table, orient="index")
    frame.index.name = "task"
    return frame


def summary_markdown(results: pd.DataFrame, models: Sequence[str], control: str) -> str:
    """Return the results tables of all models as Markdown."""
    parts = []
    for model in models:
        table = results_table(results, model, control)
        marked = best_cells(results, model, table)
        parts.append(f"**{model}**\n\n{to_markdown(table.reset_index(), marked)}")
        comparison = comparison_table(results, model)
        if len(comparison):
            parts += [f"{marking(results, model)}\n", to_markdown(comparison.reset_index())]
    return "\n".join(parts)


def _difference(means: pd.DataFrame, metric: str, by: str, name: str, other: str) -> Mapping[str, Any] | None:
    """Return the row of the paired difference between two names, in either direction, if it was measured."""
    for ours, theirs in ((name, other), (other, name)):
        rows = select(means, **{by: ours}, metric=f"{metric}_minus_{theirs}")
        if len(rows):
            return rows.to_dict("records")[0]
    return None


def _headline(of_paradigm: pd.DataFrame, benchmark: str, setting: str, metric: str) -> float:
    rows = select(of_paradigm, benchmark=benchmark, setting=setting, metric=metric)
    return round(float(rows["value"].iloc[0]), 4)


def _zero_shot_row(of_model: pd.DataFrame, control: str) -> dict[str, str]:
    # θ₀ is the same for all paradigms, so the first row is valid for all.
    zero_shot = select(of_model, benchmark="zero_shot")
    mean = percent(select(zero_shot, scope=MEAN))
    return {
        "single-task": mean,
        "addition, tuned α": mean,
        "negation: target": mean,
        "negation: control": percent(select(zero_shot, scope="task", task=control)),
    }


def _number(rows: pd.DataFrame, share: bool) -> str:
    """Format a number as ``31.2 [30.1, 32.0]`` or ``31.2``; empty if it is not defined."""
    if np.isnan(rows["value"].to_numpy()).all():
        return ""
    value, low, high = (
        float(rows.iloc[0][column]) * (100 if share else 1) for column in ("value", "ci_low", "ci_high")
    )
    digits = 1 if share else 3
    return f"{value:.{digits}f}" + (f" [{low:.{digits}f}, {high:.{digits}f}]" if low == low else "")
