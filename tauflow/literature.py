"""Ours beside the published figures, where model, tasks and metric are the same."""

from collections.abc import Sequence

import pandas as pd

from pipeline.report.literature import OURS, published_results, published_rows, why_not_comparable
from tauflow.comparing import model_table


def compare_with_literature(
    results: pd.DataFrame, models: Sequence[str], tasks: Sequence[str], control: str
) -> tuple[pd.DataFrame, list[str]]:
    """The published means over tasks, and ours where they are comparable, one row per model, paradigm and paper.

    Args:
        results: ours, as ``results.csv`` has them.
        models: ours.
        tasks: those of our results.
        control: that of our results.

    Returns:
        the table, whose cells are text, and a line for each of our models that is not comparable.

    Raises:
        UserError: a comparable model's results are not complete.
    """
    published = published_results()
    reasons = {model: why_not_comparable(model, tasks, control, published) for model in models}
    comparable = [model for model, reason in reasons.items() if not reason]
    ours = [_ours(results, model, control) for model in comparable]
    rows = pd.concat([*ours, published_rows(published)], ignore_index=True).fillna("")
    rows["order"] = rows.groupby(["model", "paradigm"], sort=False).ngroup()
    table = rows.sort_values("order", kind="stable").drop(columns="order")
    return table, [f"{model}: {reason}" for model, reason in reasons.items() if reason]


def _ours(results: pd.DataFrame, model: str, control: str) -> pd.DataFrame:
    table = model_table(results, model, control, OURS).drop(columns="α")
    table.insert(2, "paper", OURS)
    return table
