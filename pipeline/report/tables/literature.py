"""Our results beside the published figures, with the difference, or the reason why they are not comparable."""

from collections.abc import Sequence
from importlib.resources import files

import pandas as pd

from pipeline.measurements import MEAN, select
from pipeline.report.tables.results import COLUMNS, LOWER_IS_BETTER, results_table

# Tasks and control of every published figure.
TASKS = ("cars", "dtd", "eurosat", "gtsrb", "mnist", "resisc45", "sun397", "svhn")
CONTROL = "imagenet"
OURS = "ours"
# DTD of the published figures: `clean`, or `leaky` if test images were used in training.
DTDS = ("clean", "leaky")
LEAKY_NOTE = (
    "A leaky DTD: test images were among those that the checkpoints were trained on, which adds about 2 points to a "
    "mean over the eight tasks; such figures are marked, and never ranked with clean ones. An empty cell: unknown."
)
# Model whose published figures are shown beside results that are not comparable with any.
SHOWN_MODEL = "ViT-B-32"


def published_results() -> pd.DataFrame:
    """Return the published figures, one per row, in percent, each with its source."""
    with files("pipeline").joinpath("definitions/published_results.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False, dtype={"percent": "float64"})


def why_not_comparable(model: str, tasks: Sequence[str], control: str, published: pd.DataFrame) -> str:
    """Return the reason why no published figure is comparable with ours; empty if some are."""
    theirs = list(dict.fromkeys(published["model"]))
    other = []
    if model not in theirs:
        other.append(f"another model than {', '.join(theirs)}")
    if {task.casefold() for task in tasks} != set(TASKS) or control.casefold() != CONTROL:
        other.append(f"other tasks ({', '.join(tasks)}; control {control}) than {', '.join(TASKS)}; control {CONTROL}")
    return f"nothing published is comparable with ours: {', and '.join(other)}" if other else ""


def published_rows(published: pd.DataFrame) -> pd.DataFrame:
    """Return one row per model, paradigm, paper and DTD, with the columns of the results table; cells are text."""
    rows = []
    keys = ["model", "paradigm", "paper", "identifier", "dtd"]
    for key in dict.fromkeys(published[keys].itertuples(index=False, name=None)):
        model, paradigm, paper, identifier, dtd = key
        of_key = select(published, **dict(zip(keys, key, strict=True)))
        row = {"model": model, "paradigm": paradigm, "paper": f"{paper}, {identifier}"}
        notes: dict[str, None] = {}
        for title in COLUMNS:
            figures = _of(of_key, title)
            row[title] = "".join(f"{percent:.2f}".removesuffix("0") for percent in figures["percent"])
            notes |= dict.fromkeys(note for note in figures["note"] if note)
        tuned_on = ", ".join(split for split in dict.fromkeys(of_key["tuned_on"]) if split)
        rows.append({**row, "DTD": dtd, "α chosen on": tuned_on, "note": "; ".join(notes)})
    return pd.DataFrame(rows)


def literature_table(results: pd.DataFrame, model: str, control: str, reason: str) -> pd.DataFrame:
    """Return published figures of our paradigms, after ours: one row per paradigm and paper; cells are text.

    Args:
        results: our results.
        model: our model.
        control: our control task.
        reason: why our results are not comparable; if empty, cells of papers end with ours minus theirs, in points.

    Returns:
        columns ``model``, ``paradigm``, ``paper``, those of the results table, ``DTD``, ``α chosen on``, ``note``.
    """
    ours = results_table(results, model, control).drop(columns="α").drop(index="zero-shot").reset_index()
    ours.insert(0, "model", model)
    ours.insert(2, "paper", OURS)
    ours = ours.assign(**{"α chosen on": "val"})
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
    """Return the paradigms from the best to the worst, one row per source (ours, each paper), one column per setting.

    Papers with only one of the paradigms, and figures of a leaky DTD, are omitted.
    """
    titles = list(COLUMNS)[1:6]
    points = published_points(results, model, paradigms, reason)
    rows = {}
    for source in dict.fromkeys(points["source"]):
        clean = points.loc[(points["source"] == source) & (points["dtd"] != "leaky")]
        order = {title: _ordering(select(clean, title=title), title) for title in titles}
        if any(order.values()):
            rows[source] = order
    table = pd.DataFrame.from_dict(rows, orient="index", columns=titles)
    table.index.name = "source"
    return table


def published_points(results: pd.DataFrame, model: str, paradigms: Sequence[str], reason: str) -> pd.DataFrame:
    """Return ours and published figures, one per row.

    Returns:
        columns ``source`` (our model, or paper and model), ``paradigm``, ``title``, ``percent`` and ``dtd``.
    """
    shown = SHOWN_MODEL if reason else model
    values = _means(results, model)
    rows = [(model, paradigm, title, value, "") for (paradigm, title), value in values.items() if paradigm in paradigms]
    published = select(published_results(), model=shown)
    for title in COLUMNS:
        for row in _of(published, title).to_dict("records"):
            if row["paradigm"] in paradigms:
                rows.append((f"{row['paper']}, {shown}", row["paradigm"], title, row["percent"], row["dtd"]))
    return pd.DataFrame(rows, columns=["source", "paradigm", "title", "percent", "dtd"])


def _of(published: pd.DataFrame, title: str) -> pd.DataFrame:
    benchmark, setting, metric = COLUMNS[title]
    return select(published, benchmark=benchmark, setting=setting, metric=metric)


def _means(results: pd.DataFrame, model: str) -> dict[tuple[str, str], float]:
    """Return ours in percent, by paradigm and column."""
    means = select(results, model=model, scope=MEAN)
    return {
        (str(row["paradigm"]), title): 100 * float(row["value"])
        for title in COLUMNS
        for row in _of(means, title).to_dict("records")
    }


def _with_difference(text: str, ours: float | None) -> str:
    return f"{text} ({ours - float(text):+.1f})" if text and ours is not None else text


def _ordering(points: pd.DataFrame, title: str) -> str:
    """Return the paradigms in words, ``tau_jp 97.2, ntk 85.1, standard 78.0``; empty for fewer than two."""
    best_first = points.sort_values("percent", ascending=title in LOWER_IS_BETTER, kind="stable")
    named = zip(best_first["paradigm"], best_first["percent"], strict=True)
    return ", ".join(f"{paradigm} {percent:.1f}" for paradigm, percent in named) if len(points) > 1 else ""
