"""comparison@model: every paradigm against the first one, on the same test images."""

import typer

from pipeline.evaluation import read_correct
from pipeline.evaluation.comparison import Outcome, measure_difference, outcomes
from pipeline.measurements import Recorder, Setting, to_frame, write_frame
from tauflow import layout
from tauflow.stage import run_stage

SETTINGS: tuple[Setting, ...] = ("tuned", "alpha_1")


def main(model: str) -> None:
    """Paired differences in addition, from stored results: nothing is evaluated again."""
    with run_stage("comparison", model, used=["paradigms", "tasks", "intervals"]) as stage:
        params = stage.params
        reference, *others = params.paradigms
        rows = []
        for setting in SETTINGS:
            theirs = _read(model, reference, setting, params.tasks)
            for paradigm in others:
                ours = _read(model, paradigm, setting, params.tasks)
                recorder = Recorder(model, paradigm, params.seed)
                rows += measure_difference(recorder, setting, ours, theirs, reference, params.intervals)
        write_frame(layout.comparison(model), to_frame(rows))


def _read(model: str, paradigm: str, setting: Setting, tasks: list[str]) -> dict[str, Outcome]:
    edited = read_correct(layout.correctness(model, paradigm, "addition"), setting)
    single = read_correct(layout.correctness(model, paradigm, "single_task"), "single_task")
    return outcomes(edited, single, tasks)


if __name__ == "__main__":
    typer.run(main)
