"""addition@model-paradigm: the sum of all task vectors on test, at the chosen α and at α = 1."""

import typer

from pipeline.evaluation import read_correct, write_correct
from pipeline.evaluation.protocols import evaluate_addition, measure_accuracy, measure_normalised
from pipeline.files import read_json
from pipeline.measurements import MEAN, Recorder
from stages.inputs import read_benchmark, read_edit_space
from stages.outputs import write_results
from tauflow import layout
from tauflow.stage import run_stage


def main(model: str, paradigm: str, recipe: str) -> None:
    """Evaluate both edits; normalise by the single-task models on the same images."""
    with run_stage("addition", model, paradigm, used=["paradigm", "tasks", "intervals"]) as stage:
        params = stage.params
        space = read_edit_space(model, paradigm, recipe, params)
        benchmarks = [read_benchmark(model, task, "test") for task in params.tasks]
        alpha = read_json(layout.metrics(model, paradigm, "alpha"))["alpha"]["addition"]
        single = read_correct(layout.correctness(model, paradigm, "single_task"), "single_task")
        results = evaluate_addition(space, {"tuned": alpha, "alpha_1": 1.0}, benchmarks, params.evaluation.batch_size)

        recorder = Recorder(model, paradigm, params.seed)
        rows = [recorder.number("addition", "tuned", MEAN, "alpha", alpha)]
        for setting, correct in results.items():
            rows += measure_accuracy(recorder, "addition", setting, correct, params.intervals)
            rows += measure_normalised(recorder, "addition", setting, correct, single, params.intervals)
        write_correct(layout.correctness(model, paradigm, "addition"), results, {"model": model})
        write_results(stage, model, paradigm, "addition", rows)


if __name__ == "__main__":
    typer.run(main)
