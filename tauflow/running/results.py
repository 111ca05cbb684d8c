"""Write the measurements of an evaluation stage: a table, its means for DVC, metrics for MLflow."""

from collections.abc import Sequence
from dataclasses import asdict

from artifacts import layout
from artifacts.catalogue import measurements_of
from pipeline.io.files import write_json
from pipeline.measurements import MEAN, Measurement, summary, to_frame, tracked_name, write_frame
from tauflow.running.stage import Stage

# Metrics that are shares, which are shown in percent.
_SHARES = {"accuracy", "normalized", "target", "control", "error", "error_alpha_1", "area", "drop"}


def write_results(stage: Stage, rows: Sequence[Measurement]) -> None:
    """Write measurements as CSV and their means as JSON, and log all except those of pairs of tasks."""
    model, paradigm = stage.keys("model", "paradigm")
    write_frame(measurements_of(stage.instance), to_frame(rows))
    write_json(layout.metrics(model, paradigm, stage.instance.stage), summary(rows))
    for row in rows:
        if row.scope != "pair":  # too many for MLflow's pages
            stage.journal.metrics({tracked_name(asdict(row)): row.value})
    for row in rows:
        if row.scope == MEAN and row.ci_low is not None:
            print(f"{stage.name}: {_shown(row)}")


def _shown(row: Measurement) -> str:
    """Return a mean with its interval as text: ``addition tuned accuracy 62.3 % [61.3, 63.3]``."""
    numbers = (row.value, row.ci_low, row.ci_high)
    if row.metric in _SHARES:
        value, low, high = (f"{100 * number:.1f}" for number in numbers if number is not None)
        value += " %"
    else:
        value, low, high = (f"{number:.3f}" for number in numbers if number is not None)
    setting = "" if row.setting == "none" else f" {row.setting}"
    return f"{row.benchmark}{setting} {row.metric} {value} [{low}, {high}]"
