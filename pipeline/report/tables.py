"""The results table: one row per paradigm, with intervals."""

from collections.abc import Sequence

import pandas as pd

from pipeline.measurements import MEAN, select

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


def results_table(results: pd.DataFrame, model: str, control: str) -> pd.DataFrame:
    """Means over tasks of one model: the zero-shot row, then one row per paradigm; cells are formatted text."""
    of_model = select(results, model=model)
    rows = {"zero-shot": _zero_shot_row(of_model, control)}
    for paradigm in dict.fromkeys(of_model["paradigm"]):
        of_paradigm = select(of_model, paradigm=paradigm, task=MEAN)
        rows[str(paradigm)] = {
            title: _cell(select(of_paradigm, benchmark=benchmark, setting=setting, metric=metric))
            for title, (benchmark, setting, metric) in COLUMNS.items()
        }
        alpha = select(of_paradigm, benchmark="addition", setting="tuned", metric="alpha")
        rows[str(paradigm)]["α"] = f"{alpha['value'].iloc[0]:.2f}"
    table = pd.DataFrame.from_dict(rows, orient="index").fillna("")
    table.index.name = "paradigm"
    return table.reindex(columns=["single-task", "α", *list(COLUMNS)[1:]])


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
            "single-task": _cell(select(of_task, benchmark="single_task")),
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
    return "\n\n".join(parts) + "\n"


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


def _cell(rows: pd.DataFrame) -> str:
    """``54.8 [53.1, 56.4]``, in percent."""
    row = rows.iloc[0]
    return f"{100 * row['value']:.1f} [{100 * row['ci_low']:.1f}, {100 * row['ci_high']:.1f}]"


def _markdown(table: pd.DataFrame) -> str:
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in table.itertuples(index=False)]
    return "\n".join(lines)
