"""Compare our results with published figures of the same model, tasks and metric."""

from collections.abc import Sequence

import pandas as pd

from pipeline.report.tables.literature import OURS, published_results, published_rows, why_not_comparable
from tauflow.comparing.side_by_side import model_table


def compare_with_literature(
    results: pd.DataFrame, models: Sequence[str], tasks: Sequence[str], control: str
) -> tuple[pd.DataFrame, list[str]]:
    """Return published means over tasks, and ours where comparable, one row per model, paradigm and paper.

    Args:
        results: ours, the measurements that the summary shows.
        models: the models of our results.
        tasks: the tasks of our results.
        control: the control task of our results.

    Returns:
        The table, whose cells are text, and a note for each of our models that is not comparable.

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
