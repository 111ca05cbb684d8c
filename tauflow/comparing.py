"""Tables that put results side by side: paradigms, and DVC experiments or revisions."""

from collections.abc import Iterator, Sequence

import pandas as pd

from pipeline.config.derived import DERIVED
from pipeline.errors import UserError
from pipeline.measurements import MEAN, read_measurements, select
from pipeline.report import results_table
from pipeline.report.tables import COLUMNS
from tauflow import layout
from tauflow.revisions import Experiment, change_text, changes, read_experiment, revisions

# Said of a difference in parameters, and of how many.
_SHOWN = 4


def compare_paradigms(control: str) -> pd.DataFrame:
    """The paradigms of the working tree's results, one row per model and paradigm; cells are text.

    Raises:
        UserError: there are no results, or they are of another version.
    """
    return _table(read_measurements(layout.RESULTS), control, str(layout.RESULTS))


def compare_experiments(names: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Experiments, revisions or ``workspace``, one row per model, paradigm and experiment, the same paradigms together.

    Returns:
        the table, and a line for each experiment but the first that says in what its parameters differ from those.

    Raises:
        UserError: an experiment is unknown or unreadable, or its results are of another version.
    """
    found = [read_experiment(name, revision) for name, revision in revisions(names).items()]
    tables = []
    for position, experiment in enumerate(found):
        table = _table(experiment.table, experiment.parameters.get("control", ""), experiment.name)
        table.insert(2, "experiment", experiment.name)
        tables.append(table.assign(position=position))
    rows = pd.concat(tables, ignore_index=True)
    keys = ["model", "paradigm"]
    groups = rows.groupby(keys, sort=False).ngroup()  # in the order of their first appearance
    ordered = rows.assign(group=groups).sort_values(["group", "position"]).drop(columns=["group", "position"])
    return ordered, [_difference(found[0], other) for other in found[1:]]


def model_table(results: pd.DataFrame, model: str, control: str, where: str) -> pd.DataFrame:
    """The results table of one model with the model as its first column.

    Raises:
        UserError: a row is missing, of ``where``.
    """
    wanting = next(_missing(select(results, model=model), control), None)
    if wanting:
        raise UserError(f"{where}: model {model} has no row for {wanting}; run `dvc repro report` there")
    table = results_table(results, model, control).reset_index()
    table.insert(0, "model", model)
    return table


def _table(results: pd.DataFrame, control: str, where: str) -> pd.DataFrame:
    models = dict.fromkeys(map(str, results["model"]))
    if not models:
        raise UserError(f"{where}: holds no results; run `dvc repro report`")
    return pd.concat([model_table(results, model, control, where) for model in models], ignore_index=True)


def _missing(of_model: pd.DataFrame, control: str) -> Iterator[str]:
    """What a table of results needs and these lack."""
    paradigms = dict.fromkeys(select(of_model, benchmark="single_task")["paradigm"])
    if not paradigms:
        yield "single-task accuracy"
    if select(of_model, benchmark="zero_shot", task=control).empty:
        yield f"zero-shot accuracy on {control}"
    for paradigm in paradigms:
        means = select(of_model, paradigm=paradigm, task=MEAN)
        for title, (benchmark, setting, metric) in COLUMNS.items():
            if select(means, benchmark=benchmark, setting=setting, metric=metric).empty:
                yield f"{paradigm}: {title}"


def _difference(first: Experiment, other: Experiment) -> str:
    found = [
        (key, change_text(key, before, now))
        for key, before, now in changes(first.parameters, other.parameters)
        if key.partition(".")[0] not in DERIVED  # those that they follow from are said
    ]
    # Whole entries, such as the seed or the tasks, say more than details of a section.
    texts = [text for _, text in sorted(found, key=lambda change: change[0].count("."))]
    more = [f"and {len(texts) - _SHOWN} more"] if len(texts) > _SHOWN else []
    return f"{other.name} against {first.name}: {', '.join([*texts[:_SHOWN], *more]) or 'the same parameters'}"
