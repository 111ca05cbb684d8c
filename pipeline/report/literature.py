"""Ours beside the published figures, with the difference, or why there is none."""

from collections.abc import Sequence
from importlib.resources import files

import pandas as pd

from pipeline.measurements import MEAN, select
from pipeline.report.tables import COLUMNS, LOWER_IS_BETTER, results_table

# What every published figure is of.
TASKS = ("cars", "dtd", "eurosat", "gtsrb", "mnist", "resisc45", "sun397", "svhn")
CONTROL = "imagenet"
OURS = "ours"
# Beside results with which nothing is comparable, the published figures of this model are shown.
SHOWN_MODEL = "ViT-B-32"


def published_results() -> pd.DataFrame:
    """The published figures, one per row, in percent, each with where it stands."""
    with files("pipeline").joinpath("definitions/published_results.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False, dtype={"percent": "float64"})


def why_not_comparable(model: str, tasks: Sequence[str], control: str, published: pd.DataFrame) -> str:
    """Why no published figure is of our model and tasks; empty if they are comparable."""
    theirs = list(dict.fromkeys(published["model"]))
    other = []
    if model not in theirs:
        other.append(f"another model than {', '.join(theirs)}")
    if {task.casefold() for task in tasks} != set(TASKS) or control.casefold() != CONTROL:
        other.append(f"other tasks ({', '.join(tasks)}; control {control}) than {', '.join(TASKS)}; control {CONTROL}")
    return f"nothing published is comparable with ours: {', and '.join(other)}" if other else ""


def published_rows(published: pd.DataFrame) -> pd.DataFrame:
    """One row per model, paradigm and paper, with the columns of the results table; cells are text or empty."""
    rows = []
    keys = ["model", "paradigm", "paper", "identifier"]
    for model, paradigm, paper, identifier in dict.fromkeys(published[keys].itertuples(index=False, name=None)):
        found = select(published, model=model, paradigm=paradigm, paper=paper)
        row = {"model": model, "paradigm": paradigm, "paper": f"{paper}, {identifier}"}
        notes: dict[str, None] = {}
        for title in COLUMNS:
            of_title = _of(found, title)
            row[title] = "".join(f"{percent:.2f}".removesuffix("0") for percent in of_title["percent"])
            notes |= dict.fromkeys(note for note in of_title["note"] if note)
        rows.append({**row, "note": "; ".join(notes)})
    return pd.DataFrame(rows)


def literature_table(results: pd.DataFrame, model: str, control: str, reason: str) -> pd.DataFrame:
    """Published figures of our paradigms, and ours before them: one row per paradigm and paper; cells are text.

    Args:
        results: ours.
        model: ours.
        control: our control task.
        reason: why ours are not comparable; if they are, cells of papers end with ours minus theirs, in points.

    Returns:
        columns ``model``, ``paradigm``, ``paper``, those of the results table, ``note``.
    """
    ours = results_table(results, model, control).drop(columns="α").drop(index="zero-shot").reset_index()
    ours.insert(0, "model", model)
    ours.insert(2, "paper", OURS)
    published = select(published_results(), model=SHOWN_MODEL if reason else model)
    theirs = published_rows(published.loc[published["paradigm"].isin(list(ours["paradigm"]))])
    if not reason:
        values = _means(results, model)
        for title in COLUMNS:
            pairs = zip(theirs["paradigm"], theirs[title], strict=True)
            theirs[title] = [_with_difference(text, values.get((paradigm, title))) for paradigm, text in pairs]
    rows = pd.concat([ours, theirs], ignore_index=True).fillna("")
    order = rows.groupby("paradigm", sort=False).ngroup()
    return rows.assign(order=order).sort_values("order", kind="stable").drop(columns="order").reset_index(drop=True)


def orderings(results: pd.DataFrame, model: str, paradigms: Sequence[str], reason: str) -> pd.DataFrame:
    """The paradigms from the best to the worst, ours and each paper's: one row per source, one column per setting.

    Papers that have only one of the paradigms order nothing and are left out.
    """
    titles = list(COLUMNS)[1:6]
    points = published_points(results, model, paradigms, reason)
    rows = {}
    for source in dict.fromkeys(points["source"]):
        of = select(points, source=source)
        found = {title: _ordering(select(of, title=title), title) for title in titles}
        if any(found.values()):
            rows[source] = found
    table = pd.DataFrame.from_dict(rows, orient="index", columns=titles)
    table.index.name = "source"
    return table


def published_points(results: pd.DataFrame, model: str, paradigms: Sequence[str], reason: str) -> pd.DataFrame:
    """Ours and published figures.

    Returns:
        columns ``source`` (our model, or paper and model), ``paradigm``, ``title`` and ``percent``.
    """
    shown = SHOWN_MODEL if reason else model
    values = _means(results, model)
    rows = [(model, paradigm, title, value) for (paradigm, title), value in values.items() if paradigm in paradigms]
    published = select(published_results(), model=shown)
    for title in COLUMNS:
        for found in _of(published, title).to_dict("records"):
            if found["paradigm"] in paradigms:
                rows.append((f"{found['paper']}, {shown}", found["paradigm"], title, found["percent"]))
    return pd.DataFrame(rows, columns=["source", "paradigm", "title", "percent"])


def _of(published: pd.DataFrame, title: str) -> pd.DataFrame:
    benchmark, setting, metric = COLUMNS[title]
    return select(published, benchmark=benchmark, setting=setting, metric=metric)


def _means(results: pd.DataFrame, model: str) -> dict[tuple[str, str], float]:
    """Ours in percent, by paradigm and column."""
    means = select(results, model=model, task=MEAN)
    found = {}
    for title in COLUMNS:
        for row in _of(means, title).to_dict("records"):
            found[str(row["paradigm"]), title] = 100 * float(row["value"])
    return found


def _with_difference(text: str, ours: float | None) -> str:
    return f"{text} ({ours - float(text):+.1f})" if text and ours is not None else text


def _ordering(points: pd.DataFrame, title: str) -> str:
    """``tau_jp 97.2, ntk 85.1, standard 78.0``; empty for fewer than two."""
    best_first = points.sort_values("percent", ascending=title in LOWER_IS_BETTER, kind="stable")
    named = zip(best_first["paradigm"], best_first["percent"], strict=True)
    return ", ".join(f"{paradigm} {percent:.1f}" for paradigm, percent in named) if len(points) > 1 else ""
