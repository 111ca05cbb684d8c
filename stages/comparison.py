"""comparison@model: every paradigm against the first one, on the same test images."""

import typer

from pipeline.evaluation import read_correct
from pipeline.evaluation.comparison import Images, Outcome, measure_difference, measure_single_task, outcomes
from pipeline.measurements import Recorder, Setting, to_frame, write_frame
from pipeline.models.heads import read_head
from tauflow import layout
from tauflow.stage import run_stage

SETTINGS: tuple[Setting, ...] = ("tuned", "alpha_1")


def main(model: str) -> None:
    """Paired differences in single-task accuracy and in addition, from stored results: nothing is evaluated again."""
    with run_stage("comparison", model, used=["paradigms", "tasks", "intervals"]) as stage:
        params = stage.params
        reference, *others = params.paradigms
        single = {paradigm: _read(model, paradigm, "single_task", "single_task") for paradigm in params.paradigms}

        def sums(paradigm: str, setting: Setting) -> dict[str, Outcome]:
            return outcomes(_read(model, paradigm, "addition", setting), single[paradigm], params.tasks)

        classes = {task: len(read_head(layout.head(model, task)).classes) for task in params.tasks}
        rows = []
        for paradigm in others:
            recorder = Recorder(model, paradigm, params.seed)
            theirs = single[reference]
            rows += measure_single_task(recorder, single[paradigm], theirs, classes, reference, params.intervals)
        for setting in SETTINGS:
            theirs = sums(reference, setting)
            for paradigm in others:
                recorder = Recorder(model, paradigm, params.seed)
                ours = sums(paradigm, setting)
                rows += measure_difference(recorder, setting, ours, theirs, reference, params.intervals)
        write_frame(layout.comparison(model), to_frame(rows))


def _read(model: str, paradigm: str, benchmark: str, edit: str) -> dict[str, Images]:
    return read_correct(layout.correctness(model, paradigm, benchmark), edit)


if __name__ == "__main__":
    typer.run(main)
