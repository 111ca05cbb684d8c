"""Ours beside the published figures, where model, tasks and metric are the same."""

from collections.abc import Iterator, Sequence
from importlib.resources import files

import pandas as pd

from pipeline.measurements import select
from pipeline.report.tables import COLUMNS
from tauflow.comparing import model_table

# What every published figure is of.
TASKS = ("cars", "dtd", "eurosat", "gtsrb", "mnist", "resisc45", "sun397", "svhn")
CONTROL = "imagenet"
OURS = "ours"


def published_results() -> pd.DataFrame:
    """The published figures, one per row, in percent, each with where it stands."""
    with files("pipeline").joinpath("definitions/published_results.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False, dtype={"percent": "float64"})


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
    reasons = {model: _why_not(model, tasks, control, published) for model in models}
    comparable = [model for model, reason in reasons.items() if not reason]
    ours = [_ours(results, model, control) for model in comparable]
    rows = pd.concat([*ours, pd.DataFrame(_rows(published))], ignore_index=True).fillna("")
    rows["order"] = rows.groupby(["model", "paradigm"], sort=False).ngroup()
    table = rows.sort_values("order", kind="stable").drop(columns="order")
    return table, [f"{model}: {reason}" for model, reason in reasons.items() if reason]


def _why_not(model: str, tasks: Sequence[str], control: str, published: pd.DataFrame) -> str:
    theirs = list(dict.fromkeys(published["model"]))
    other = []
    if model not in theirs:
        other.append(f"another model than {', '.join(theirs)}")
    if {task.casefold() for task in tasks} != set(TASKS) or control.casefold() != CONTROL:
        other.append(f"other tasks ({', '.join(tasks)}; control {control}) than {', '.join(TASKS)}; control {CONTROL}")
    return f"nothing published is comparable with ours: {', and '.join(other)}" if other else ""


def _ours(results: pd.DataFrame, model: str, control: str) -> pd.DataFrame:
    table = model_table(results, model, control, OURS).drop(columns="α")
    table.insert(2, "paper", OURS)
    return table


def _rows(published: pd.DataFrame) -> Iterator[dict[str, str]]:
    keys = ["model", "paradigm", "paper", "identifier"]
    for model, paradigm, paper, identifier in dict.fromkeys(published[keys].itertuples(index=False, name=None)):
        found = select(published, model=model, paradigm=paradigm, paper=paper)
        row = {"model": model, "paradigm": paradigm, "paper": f"{paper}, {identifier}"}
        shown = pd.DataFrame()
        for title, (benchmark, setting, metric) in COLUMNS.items():
            of_title = select(found, benchmark=benchmark, setting=setting, metric=metric)
            row[title] = "".join(f"{percent:.2f}".removesuffix("0") for percent in of_title["percent"])
            shown = pd.concat([shown, of_title])
        notes = dict.fromkeys(note for note in shown["note"] if note)
        yield {**row, "note": "; ".join(notes)}
