"""Stand-in measurements: tables of made-up numbers where the stages before `summary` write theirs."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from artifacts.catalogue import WrittenTable, tables
from pipeline.config import Parameters
from pipeline.measurements import (
    Estimate,
    Measurement,
    Recorder,
    Setting,
    Subject,
    to_frame,
    write_frame,
)


def write_measurements(root: Path, params: Parameters, level: float = 0.5) -> None:
    """Write the tables that `summary` reads, with accuracies around ``level``; intervals are ± 0.02.

    The current directory must hold the project's ``dvc.yaml``.
    """
    for written in tables(params):
        if written.table.headline:
            write_frame(root / written.path, to_frame(_rows(written, params, level)))


def _rows(written: WrittenTable, params: Parameters, level: float) -> Iterator[Measurement]:
    keys = written.instance.keys
    if written.instance.stage == "comparison":
        yield from _differences(keys["model"], params)
        return
    position = params.paradigms.index(keys["paradigm"]) / 100
    recorder = Recorder(keys["model"], params.seed, paradigm=keys["paradigm"])
    everything = [*map(Subject.of_task, params.tasks), Subject.of_mean()]

    def accuracy(benchmark: str, setting: Setting, metric: str, value: float) -> Iterator[Measurement]:
        for subject in everything:
            yield recorder.estimate(benchmark, setting, subject, metric, _around(value))

    match written.instance.stage:
        case "single_task":
            yield from accuracy("zero_shot", "none", "accuracy", level - 0.3)
            control = Subject.of_task(params.control)
            yield recorder.estimate("zero_shot", "none", control, "accuracy", _around(level - 0.25))
            yield from accuracy("single_task", "none", "accuracy", level + 0.2 + position)
        case "addition":
            yield recorder.number("addition", "tuned", Subject.of_mean(), "alpha", 0.25)
            drops: dict[Setting, float] = {"tuned": 0.0, "alpha_1": 0.2}
            for setting, drop in drops.items():
                yield from accuracy("addition", setting, "accuracy", level + position - drop)
                yield from accuracy("addition", setting, "normalized", level + 0.1 + position - drop)
        case "negation":
            for task in params.tasks:
                yield recorder.number("negation", "tuned", Subject.of_task(task), "alpha", 0.5)
            for metric, value in (("target", level - 0.4), ("control", level - 0.3)):
                yield from accuracy("negation", "tuned", metric, value + position)


def _differences(model: str, params: Parameters) -> Iterator[Measurement]:
    for reference, paradigm in itertools.combinations(params.paradigms, 2):
        recorder = Recorder(model, params.seed, paradigm=paradigm)
        settings: tuple[Setting, ...] = ("tuned", "alpha_1")
        for setting, metric in itertools.product(settings, ("accuracy", "normalized")):
            name = f"{metric}_minus_{reference}"
            yield recorder.estimate("addition", setting, Subject.of_mean(), name, _around(0.01))
        mean, difference = Subject.of_mean(), _around(0.01)
        yield recorder.estimate("single_task", "none", mean, f"accuracy_minus_{reference}", difference)
        yield recorder.estimate("negation", "tuned", mean, f"target_minus_{reference}", difference)


def _around(value: float) -> Estimate:
    return Estimate(value, value - 0.02, value + 0.02, 100)
