"""Our results beside the published figures, with the difference, or the reason why they are not comparable."""

from collections.abc import Sequence
from importlib.resources import files

import pandas as pd

from pipeline.measurements import MEAN, select
from pipeline.report.tables.results import COLUMNS, LOWER_IS_BETTER, results_table

# Tasks of the published figures, by suite, and the control of all of them.
TASKS = ("cars", "dtd", "eurosat", "gtsrb", "mnist", "resisc45", "sun397", "svhn")
_OF_14 = (*TASKS, "cifar100", "fer2013", "flowers102", "oxford_pets", "pcam", "stl10")
_OF_20 = (*_OF_14, "cifar10", "fashion_mnist", "food101", "rendered_sst2")
SUITES = {
    "paper8": TASKS,
    "paper14": _OF_14,
    "paper20": (*_OF_20, "emnist", "kmnist"),
    "public20": (*_OF_20, "emnist_letters", "kmnist_hiragana"),
}
CONTROL = "imagenet"
# Note of the figures for the tasks of public20; all others for 20 tasks are for those of paper20.
LETTERS = "EMNIST is its letters"
OURS = "ours"
# DTD of the published figures: `clean`, or `leaky` if test images were used in training.
DTDS = ("clean", "leaky")
LEAKY_NOTE = (
    "A leaky DTD: test images were among those that the checkpoints were trained on, which adds about 2 points to a "
    "mean over eight tasks; such figures are marked, and never ranked with clean ones. An empty cell: unknown."
)
# Model whose published figures for eight tasks are shown beside results that are not comparable with any.
SHOWN_MODEL = "ViT-B-32"


def published_results() -> pd.DataFrame:
    """Return the published figures, one per row, in percent, each with its source."""
    with files("pipeline").joinpath("definitions/published_results.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False, dtype={"percent": "float64"})


def of_tasks(published: pd.DataFrame, tasks: Sequence[str]) -> pd.DataFrame:
    """Return the published figures for exactly these tasks; none if no suite of the papers has them."""
    names = {task.casefold() for task in tasks}
    suite = next((suite for suite, theirs in SUITES.items() if set(theirs) == names), "")
    has_letters = published["note"].str.contains(LETTERS, regex=False)
    is_of_size = published["tasks"] == len(SUITES.get(suite, ()))
    return published.loc[is_of_size & (has_letters == (suite == "public20"))]


def why_not_comparable(model: str, tasks: Sequence[str], control: str, published: pd.DataFrame) -> str:
    """Return the reason why no published figure is comparable with ours; empty if some are."""
    of_ours = of_tasks(published, tasks)
    theirs = list(dict.fromkeys((published if of_ours.empty else of_ours)["model"]))
    other = []
    if model not in theirs:
        other.append(f"another model than {', '.join(theirs)}")
    if of_ours.empty or control.casefold() != CONTROL:
        suites = f"those of {', '.join(SUITES)}; control {CONTROL}"
        other.append(f"other tasks ({', '.join(tasks)}; control {control}) than {suites}")
    return f"nothing published is comparable with ours: {', and '.join(other)}" if other else ""


def published_rows(published: pd.DataFrame) -> pd.DataFrame:
    """Return one row per number of tasks, model, paradigm, paper and DTD; cells are text.

    Returns:
        columns ``tasks``, ``model``, ``paradigm``, ``paper``, those of the results table, ``DTD``, ``α chosen on``,
        ``note``.
    """
    rows = []
    keys = ["tasks", "model", "paradigm", "paper", "identifier", "dtd"]
    for key in dict.fromkeys(published[keys].itertuples(index=False, name=None)):
        tasks, model, paradigm, paper, identifier, dtd = key
        of_key = select(published, **dict(zip(keys, key, strict=True)))
        row = {"tasks": str(tasks), "model": model, "paradigm": paradigm, "paper": f"{paper}, {identifier}"}
        notes: dict[str, None] = {}
        for title in COLUMNS:
            figures = _of(of_key, title)
            row[title] = "".join(f"{percent:.2f}".removesuffix("0") for percent in figures["percent"])
            notes |= dict.fromkeys(note for note in figures["note"] if note)
        tuned_on = ", ".join(split for split in dict.fromkeys(of_key["tuned_on"]) if split)
        rows.append({**row, "DTD": dtd, "α chosen on": tuned_on, "note": "; ".join(notes)})
    columns = ["tasks", "model", "paradigm", "paper", *COLUMNS, "DTD", "α chosen on", "note"]
    return pd.DataFrame(rows, columns=columns)


def literature_table(
    results: pd.DataFrame, model: str, tasks: Sequence[str], control: str, reason: str
) -> pd.DataFrame:
    """Return published figures of our paradigms, after ours: one row per paradigm and paper; cells are text.

    Args:
        results: our results.
        model: our model.
        tasks: our tasks.
        control: our control task.
        reason: why our results are not comparable; if empty, cells of papers end with ours minus theirs, in points.

    Returns:
        the columns of :func:`published_rows`.
    """
    ours = results_table(results, model, control).drop(columns="α").drop(index="zero-shot").reset_index()
    ours.insert(0, "tasks", str(len(tasks)))
    ours.insert(1, "model", model)
    ours.insert(3, "paper", OURS)
    ours = ours.assign(**{"α chosen on": "val"})
    published = _shown(model, tasks, reason)
    theirs = published_rows(published.loc[published["paradigm"].isin(list(ours["paradigm"]))])
    if not reason:
        values = _means(results, model)
        for title in COLUMNS:
            pairs = zip(theirs["paradigm"], theirs[title], strict=True)
            theirs[title] = [_with_difference(text, values.get((paradigm, title))) for paradigm, text in pairs]
    rows = pd.concat([ours, theirs], ignore_index=True).fillna("")
    order = rows.groupby("paradigm", sort=False).ngroup()
    return rows.assign(order=order).sort_values("order", kind="stable").drop(columns="order").reset_index(drop=True)


def orderings(
    results: pd.DataFrame, model: str, tasks: Sequence[str], paradigms: Sequence[str], reason: str
) -> pd.DataFrame:
    """Return the paradigms from the best to the worst, one row per source (ours, each paper), one column per setting.

    Papers with only one of the paradigms, and figures of a leaky DTD, are omitted.
    """
    titles = list(COLUMNS)[1:6]
    points = published_points(results, model, tasks, paradigms, reason)
    rows = {}
    for source in dict.fromkeys(points["source"]):
        clean = points.loc[(points["source"] == source) & (points["dtd"] != "leaky")]
        order = {title: _ordering(select(clean, title=title), title) for title in titles}
        if any(order.values()):
            rows[source] = order
    table = pd.DataFrame.from_dict(rows, orient="index", columns=titles)
    table.index.name = "source"
    return table


def published_points(
    results: pd.DataFrame, model: str, tasks: Sequence[str], paradigms: Sequence[str], reason: str
) -> pd.DataFrame:
    """Return ours and published figures, one per row.

    Returns:
        columns ``source`` (our model, or paper and model), ``paradigm``, ``title``, ``percent`` and ``dtd``.
    """
    shown = SHOWN_MODEL if reason else model
    values = _means(results, model)
    rows = [(model, paradigm, title, value, "") for (paradigm, title), value in values.items() if paradigm in paradigms]
    published = _shown(model, tasks, reason)
    for title in COLUMNS:
        for row in _of(published, title).to_dict("records"):
            if row["paradigm"] in paradigms:
                rows.append((f"{row['paper']}, {shown}", row["paradigm"], title, row["percent"], row["dtd"]))
    return pd.DataFrame(rows, columns=["source", "paradigm", "title", "percent", "dtd"])


def _shown(model: str, tasks: Sequence[str], reason: str) -> pd.DataFrame:
    """Return the published figures that are shown beside ours: those for our tasks and model, where comparable."""
    of_ours = of_tasks(published_results(), TASKS if reason else tasks)
    return select(of_ours, model=SHOWN_MODEL if reason else model)


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
