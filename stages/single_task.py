"""single_task@model-paradigm: accuracies on test that normalise the rest, and the zero-shot ones."""

import typer

from pipeline.evaluation import write_correct
from pipeline.evaluation.protocols import evaluate_single_task, measure_accuracy
from pipeline.measurements import Recorder
from stages.inputs import read_inputs
from stages.outputs import write_results
from tauflow import layout
from tauflow.stage import run_stage


def main(model: str, paradigm: str, recipe: str) -> None:
    """Evaluate θ₀ on every task and the control, and each θ₀ + τₜ on its own task."""
    used = ["paradigm", "tasks", "control", "intervals"]
    with run_stage("single_task", model, paradigm, used=used) as stage:
        params = stage.params
        inputs = read_inputs(params, model, paradigm, recipe)
        benchmarks = inputs.benchmarks([*params.tasks, params.control], "test")
        zero_shot, single = evaluate_single_task(inputs.space, benchmarks, params.evaluation.batch_size)

        control = {params.control: zero_shot.pop(params.control)}
        recorder = Recorder(model, paradigm, params.seed)
        intervals = params.intervals
        rows = measure_accuracy(recorder, "zero_shot", "none", zero_shot, intervals)
        rows += measure_accuracy(recorder, "zero_shot", "none", control, intervals)[:1]
        rows += measure_accuracy(recorder, "single_task", "none", single, intervals)
        path = layout.correctness(model, paradigm, "single_task")
        write_correct(path, {"zero_shot": {**zero_shot, **control}, "single_task": single}, {"model": model})
        table = layout.measurements(model, paradigm) / "single_task.csv"
        write_results(stage, table, layout.metrics(model, paradigm, "single_task"), rows)


if __name__ == "__main__":
    typer.run(main)
