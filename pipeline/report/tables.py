"""The results tables: one row per paradigm, with intervals, and their differences."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from pipeline.measurements import MEAN, select

# Formats the row of a number.
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

# Of these, where the best is the lowest.
LOWER_IS_BETTER = ("negation: target",)

# Of these, what `dvc exp show` has a column for, under the name it has there.
HEADLINES = {
    "single_task": "single-task",
    "addition": "addition, tuned α",
    "normalized": "normalised",
    "normalized_alpha_1": "normalised, α = 1",
    "target": "negation: target",
    "control": "negation: control",
}

# The same of the analyses; whether the number is a share, shown in percent.
ANALYSES = {
    "ξ, mean over the grid": ("disentanglement", "error", True),
    "ξ at α₁ = α₂ = 1": ("disentanglement", "error_alpha_1", True),
    "grid with ξ < 5 %": ("disentanglement", "area", True),
    "ξ of representations, nats": ("disentanglement", "divergence", False),
    "τJp": ("tau_jp", "tau_jp", False),
    "drop, points": ("tau_jp", "drop", True),
    "rank correlation": ("tau_jp", "rank_correlation", False),
}

# The same of incremental learning: setting, metric.
INCREMENTAL = {
    "addition, tuned α": ("tuned", "accuracy"),
    "normalised": ("tuned", "normalized"),
    "normalised, over arrivals": ("tuned", "normalized_over_arrivals"),
    "addition, α = 1": ("alpha_1", "accuracy"),
    "normalised, α = 1": ("alpha_1", "normalized"),
    "normalised, α = 1, over arrivals": ("alpha_1", "normalized_over_arrivals"),
}

# Of a difference between paradigms: metric → words.
DIFFERENCES = {"accuracy": "accuracy", "normalized": "normalised"}


def results_table(results: pd.DataFrame, model: str, control: str) -> pd.DataFrame:
    """Means over tasks of one model: the zero-shot row, then one row per paradigm; cells are formatted text."""
    of_model = select(results, model=model)
    rows = paradigm_rows(of_model, _cell, lambda alpha: f"{alpha['value'].iloc[0]:.2f}")
    return titled_table({"zero-shot": _zero_shot_row(of_model, control), **rows}, "paradigm")


def best_cells(results: pd.DataFrame, model: str, table: pd.DataFrame) -> dict[str, set[int]]:
    """The rows of a results table that hold the best mean of a column; with one paradigm, none is the best.

    The zero-shot row takes no part.
    """
    means = select(results, model=model, task=MEAN)
    found = {}
    for title, (benchmark, setting, metric) in COLUMNS.items():
        rows = select(means, benchmark=benchmark, setting=setting, metric=metric)
        values = dict(zip(rows["paradigm"], rows["value"], strict=True))
        best = (min if title in LOWER_IS_BETTER else max)(values.values())
        if len(values) > 1:
            found[title] = {row for row, name in enumerate(table.index) if values.get(name) == best}
    return found


def headlines(results: pd.DataFrame, models: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """The few means over tasks by which experiments are compared, by model, then paradigm."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for model in models:
        of_model = select(results, model=model, task=MEAN)
        for paradigm in dict.fromkeys(of_model["paradigm"]):
            found.setdefault(model, {})[str(paradigm)] = {
                name: _headline(select(of_model, paradigm=paradigm), *COLUMNS[title])
                for name, title in HEADLINES.items()
            }
    return found


def comparison_table(results: pd.DataFrame, model: str) -> pd.DataFrame:
    """Paired differences of the means over tasks, one row per paradigm but the first; cells are formatted text."""
    rows = difference_rows(select(results, model=model), lambda found: _cell(found, signed=True))
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "addition: difference"
    return table


def paradigm_rows(of_model: pd.DataFrame, cell: Cell, alpha_cell: Cell) -> dict[str, dict[str, str]]:
    """The means over tasks of every paradigm, by column title."""
    rows = {}
    # Those that were evaluated: tables of task vectors name recipes.
    for paradigm in dict.fromkeys(select(of_model, benchmark="single_task")["paradigm"]):
        of_paradigm = select(of_model, paradigm=paradigm, task=MEAN)
        rows[str(paradigm)] = {
            title: cell(select(of_paradigm, benchmark=benchmark, setting=setting, metric=metric))
            for title, (benchmark, setting, metric) in COLUMNS.items()
        }
        rows[str(paradigm)]["α"] = alpha_cell(
            select(of_paradigm, benchmark="addition", setting="tuned", metric="alpha")
        )
    return rows


def difference_rows(of_model: pd.DataFrame, cell: Cell) -> dict[str, dict[str, str]]:
    """The differences of addition from the first paradigm, by column title."""
    means = select(of_model, task=MEAN, benchmark="addition")
    rows: dict[str, dict[str, str]] = {}
    for metric in dict.fromkeys(means["metric"]):
        kind, minus, reference = str(metric).partition("_minus_")
        for paradigm in dict.fromkeys(select(means, metric=metric)["paradigm"]) if minus else ():
            found = select(means, metric=metric, paradigm=paradigm)
            of_paradigm = rows.setdefault(f"{paradigm} − {reference}", {})
            of_paradigm[f"{DIFFERENCES[kind]}, tuned α"] = cell(select(found, setting="tuned"))
            of_paradigm[f"{DIFFERENCES[kind]}, α = 1"] = cell(select(found, setting="alpha_1"))
    return rows


def titled_table(rows: dict[str, dict[str, str]], name: str) -> pd.DataFrame:
    """Rows of :func:`paradigm_rows` with their columns in order."""
    table = pd.DataFrame.from_dict(rows, orient="index").fillna("")
    table.index.name = name
    return table.reindex(columns=["single-task", "α", *list(COLUMNS)[1:]])


def per_task_table(results: pd.DataFrame, model: str, tasks: Sequence[str]) -> pd.DataFrame:
    """Addition with one α per task vector, for the paradigms that searched them; cells are formatted text."""
    found = select(results, model=model, benchmark="addition", setting="per_task")
    rows = {}
    for paradigm in dict.fromkeys(found["paradigm"]):
        of_paradigm = select(found, paradigm=paradigm)
        means = select(of_paradigm, task=MEAN)
        alphas = select(of_paradigm, metric="alpha").set_index("task")["value"]
        rows[str(paradigm)] = {
            "accuracy": _cell(select(means, metric="accuracy")),
            "normalised": _cell(select(means, metric="normalized")),
            **{task: f"{alphas[task]:.2f}" for task in tasks},
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "one α per task"
    return table


def analysis_table(results: pd.DataFrame, model: str) -> pd.DataFrame:
    """Disentanglement and interference of one model, means over pairs, one row per paradigm; formatted text."""
    means = select(results, model=model, task=MEAN)
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
    """Incremental learning of one model after the last arrival, one row per paradigm and order; formatted text."""
    found = select(results, model=model, benchmark="incremental")
    rows = [
        {
            "paradigm": paradigm,
            "order": order,
            **{
                title: _number(select(found, paradigm=paradigm, task=order, setting=setting, metric=metric), True)
                for title, (setting, metric) in INCREMENTAL.items()
            },
        }
        for paradigm, order in dict.fromkeys(zip(found["paradigm"], found["task"], strict=True))
    ]
    return pd.DataFrame(rows).set_index(["paradigm", "order"])


def task_table(results: pd.DataFrame, model: str, paradigm: str, tasks: Sequence[str]) -> pd.DataFrame:
    """One row per task: zero-shot, single-task, addition and negation, formatted."""
    rows = select(results, model=model, paradigm=paradigm)
    table = {}
    for task in tasks:
        of_task = select(rows, task=task)
        near_chance = select(of_task, benchmark="negation", metric="near_chance")["value"].iloc[0]
        alpha = select(of_task, benchmark="negation", metric="alpha")["value"].iloc[0]
        table[task + (" †" if near_chance else "")] = {
            "zero-shot": _cell(select(of_task, benchmark="zero_shot")),
            "single-task": _cell(select(of_task, benchmark="single_task", metric="accuracy")),
            "addition, tuned α": _cell(select(of_task, benchmark="addition", setting="tuned", metric="accuracy")),
            "addition, α = 1": _cell(select(of_task, benchmark="addition", setting="alpha_1", metric="accuracy")),
            "negation: target": _cell(select(of_task, benchmark="negation", setting="tuned", metric="target")),
            "negation: control": _cell(select(of_task, benchmark="negation", setting="tuned", metric="control")),
            "negation: α": f"{alpha:.2f}",
        }
    frame = pd.DataFrame.from_dict(table, orient="index")
    frame.index.name = "task"
    return frame


def summary_markdown(results: pd.DataFrame, models: Sequence[str], control: str) -> str:
    """The results tables of all models as Markdown."""
    parts = []
    for model in models:
        table = results_table(results, model, control).reset_index()
        parts.append(f"**{model}**\n\n{_markdown(table)}")
        comparison = comparison_table(results, model)
        if len(comparison):
            parts.append(_markdown(comparison.reset_index()))
    return "\n\n".join(parts) + "\n"


def _headline(of_paradigm: pd.DataFrame, benchmark: str, setting: str, metric: str) -> float:
    found = select(of_paradigm, benchmark=benchmark, setting=setting, metric=metric)
    return round(float(found["value"].iloc[0]), 4)


def _zero_shot_row(of_model: pd.DataFrame, control: str) -> dict[str, str]:
    # θ₀ is the same for all paradigms, so the first one's rows stand for all.
    first = select(of_model, paradigm=of_model["paradigm"].iloc[0], benchmark="zero_shot")
    mean = _cell(select(first, task=MEAN))
    return {
        "single-task": mean,
        "addition, tuned α": mean,
        "negation: target": mean,
        "negation: control": _cell(select(first, task=control)),
    }


def _cell(rows: pd.DataFrame, signed: bool = False) -> str:
    """``54.8 [53.1, 56.4]``, in percent; ``+1.2 [-0.3, +2.7]``, in points."""
    value, low, high = (100 * rows.iloc[0][column] for column in ("value", "ci_low", "ci_high"))
    sign = "+" if signed else ""
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def _number(rows: pd.DataFrame, share: bool) -> str:
    """``31.2 [30.1, 32.0]`` or ``31.2``; nothing where the number is not defined."""
    if np.isnan(rows["value"].to_numpy()).all():
        return ""
    value, low, high = (
        float(rows.iloc[0][column]) * (100 if share else 1) for column in ("value", "ci_low", "ci_high")
    )
    digits = 1 if share else 3
    return f"{value:.{digits}f}" + (f" [{low:.{digits}f}, {high:.{digits}f}]" if low == low else "")


def _markdown(table: pd.DataFrame) -> str:
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in table.itertuples(index=False)]
    return "\n".join(lines)
