"""Tables that put results side by side: paradigms, and DVC experiments or revisions."""

from collections.abc import Iterator, Sequence

import pandas as pd

from artifacts.layout import HEADLINES
from pipeline.config import Parameters
from pipeline.errors import UserError
from pipeline.measurements import MEAN, select
from pipeline.report import results_table
from pipeline.report.tables.results import COLUMNS
from tauflow.comparing.ownership import read_headlines
from tauflow.comparing.revisions import Experiment, read_experiment, revisions
from tauflow.dvc.changes import change_text, changes

# Maximum number of differing parameters that are listed.
_SHOWN = 4


def compare_paradigms(params: Parameters) -> pd.DataFrame:
    """Return the paradigms of the study that ``params.yaml`` describes, one row per model and paradigm; cells are text.

    Raises:
        UserError: there are no results, they are of another version, or of another study.
    """
    return _table(read_headlines(params), params.control, str(HEADLINES))


def compare_experiments(names: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Return experiments, revisions or ``workspace`` side by side, each with the results of its own parameters.

    Returns:
        The table, one row per model, paradigm and experiment, and a line for each experiment but the first on how its
        parameters differ from the first one's.

    Raises:
        UserError: an experiment is unknown or unreadable, or its results are of another version or another study.
    """
    experiments = [read_experiment(name, revision) for name, revision in revisions(names).items()]
    tables = []
    for position, experiment in enumerate(experiments):
        table = _table(experiment.table, experiment.parameters.get("control", ""), experiment.name)
        table.insert(2, "experiment", experiment.name)
        tables.append(table.assign(position=position))
    rows = pd.concat(tables, ignore_index=True)
    keys = ["model", "paradigm"]
    groups = rows.groupby(keys, sort=False).ngroup()  # in the order of their first appearance
    ordered = rows.assign(group=groups).sort_values(["group", "position"]).drop(columns=["group", "position"])
    return ordered, [_difference(experiments[0], other) for other in experiments[1:]]


def model_table(results: pd.DataFrame, model: str, control: str, where: str) -> pd.DataFrame:
    """Return the results table of one model, with the model as its first column.

    Raises:
        UserError: a row is missing; ``where`` names the table in the message.
    """
    wanting = next(_missing(select(results, model=model), control), None)
    if wanting:
        raise UserError(f"{where}: model {model} has no row for {wanting}; run `tauflow repro summary` there")
    table = results_table(results, model, control).reset_index()
    table.insert(0, "model", model)
    return table


def _table(results: pd.DataFrame, control: str, where: str) -> pd.DataFrame:
    models = dict.fromkeys(map(str, results["model"]))
    if not models:
        raise UserError(f"{where}: holds no results; run `tauflow repro summary`")
    return pd.concat([model_table(results, model, control, where) for model in models], ignore_index=True)


def _missing(results: pd.DataFrame, control: str) -> Iterator[str]:
    """Yield what the table of one model needs and its results lack."""
    paradigms = dict.fromkeys(select(results, benchmark="single_task")["paradigm"])
    if not paradigms:
        yield "single-task accuracy"
    if select(results, benchmark="zero_shot", task=control).empty:
        yield f"zero-shot accuracy on {control}"
    for paradigm in paradigms:
        means = select(results, paradigm=paradigm, scope=MEAN)
        for title, (benchmark, setting, metric) in COLUMNS.items():
            if select(means, benchmark=benchmark, setting=setting, metric=metric).empty:
                yield f"{paradigm}: {title}"


def _difference(first: Experiment, other: Experiment) -> str:
    texts_by_key = [
        (key, change_text(key, before, now))
        for key, before, now in changes(first.parameters, other.parameters)
        if key.partition(".")[0] != "derived"  # the choices it follows from are listed
    ]
    # Whole entries, such as the seed or the tasks, say more than details of a section.
    texts = [text for _, text in sorted(texts_by_key, key=lambda change: change[0].count("."))]
    more = [f"and {len(texts) - _SHOWN} more"] if len(texts) > _SHOWN else []
    return f"{other.name} against {first.name}: {', '.join([*texts[:_SHOWN], *more]) or 'the same parameters'}"
