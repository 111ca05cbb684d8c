"""comparison@model: every pair of paradigms, on the same test images."""

import itertools

from artifacts import layout
from artifacts.catalogue import measurements_of
from pipeline.evaluation.comparison import measure_accuracy, measure_advantage, measure_difference, outcomes
from pipeline.evaluation.correctness import read_correct
from pipeline.evaluation.intervals import Correct
from pipeline.measurements import Recorder, Setting, to_frame, write_frame
from pipeline.tasks import TaskCard
from tauflow.running.stage import run_stage

SETTINGS: tuple[Setting, ...] = ("tuned", "alpha_1")


def main() -> None:
    """Measure paired differences between all paradigms from stored outcomes, without evaluating again."""
    with run_stage() as stage:
        (model,) = stage.keys("model")
        params = stage.params
        first = params.paradigms[0]
        single = {paradigm: _read(model, paradigm, "single_task", "single_task") for paradigm in params.paradigms}
        negated = {paradigm: _read(model, paradigm, "negation", "tuned.target") for paradigm in params.paradigms}
        sums = {
            (paradigm, setting): outcomes(_read(model, paradigm, "addition", setting), single[paradigm], params.tasks)
            for paradigm in params.paradigms
            for setting in SETTINGS
        }
        classes = {task: len(TaskCard.read(layout.task_card(task)).classes) for task in params.tasks}
        rows = []
        for reference, paradigm in itertools.combinations(params.paradigms, 2):
            recorder, intervals = Recorder(model, params.seed, paradigm=paradigm), params.intervals
            ours, theirs = single[paradigm], single[reference]
            rows += measure_accuracy(recorder, "single_task", "none", "accuracy", ours, theirs, reference, intervals)
            if reference == first:
                rows += measure_advantage(recorder, ours, theirs, classes, intervals)
            for setting in SETTINGS:
                ours, theirs = sums[paradigm, setting], sums[reference, setting]
                rows += measure_difference(recorder, "addition", setting, ours, theirs, reference, intervals)
            ours, theirs = negated[paradigm], negated[reference]
            rows += measure_accuracy(recorder, "negation", "tuned", "target", ours, theirs, reference, intervals)
        write_frame(measurements_of(stage.instance), to_frame(rows))


def _read(model: str, paradigm: str, benchmark: str, edit: str) -> dict[str, Correct]:
    return read_correct(layout.correctness(model, paradigm, benchmark), edit)


if __name__ == "__main__":
    main()
