"""Compare our results with published figures of the same model, tasks and metric."""

from collections.abc import Sequence

import pandas as pd

from pipeline.report.tables.literature import OURS, published_results, published_rows, why_not_comparable
from tauflow.comparing.side_by_side import model_table


def compare_with_literature(
    results: pd.DataFrame, models: Sequence[str], tasks: Sequence[str], control: str
) -> tuple[pd.DataFrame, list[str]]:
    """Return published means over tasks, and ours where comparable, one row per tasks, model, paradigm and paper.

    Ours and the figures for as many tasks come first, and those for other numbers of tasks after all of them.

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
    ours = [_ours(results, model, tasks, control) for model in comparable]
    rows = pd.concat([*ours, published_rows(published)], ignore_index=True).fillna("")
    groups = {"size": ["tasks"], "group": ["model", "paradigm"]}  # in the order of their first appearance
    order = {name: rows.groupby(keys, sort=False).ngroup() for name, keys in groups.items()}
    table = rows.assign(**order).sort_values(list(order), kind="stable").drop(columns=list(order))
    return table, [f"{model}: {reason}" for model, reason in reasons.items() if reason]


def _ours(results: pd.DataFrame, model: str, tasks: Sequence[str], control: str) -> pd.DataFrame:
    table = model_table(results, model, control, OURS).drop(columns="α")
    table.insert(0, "tasks", str(len(tasks)))
    table.insert(3, "paper", OURS)
    return table
