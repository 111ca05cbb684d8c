"""single_task@model-paradigm: zero-shot accuracies on test, and the single-task accuracies that normalise others.

The single-task models are those of the recipe itself, before any merging.
"""

from artifacts import layout
from artifacts.evaluation.benchmarks import read_inputs
from pipeline.evaluation.correctness import write_correct
from pipeline.evaluation.protocols import evaluate_single_task, measure_accuracy
from pipeline.measurements import Recorder
from tauflow.running.results import write_results
from tauflow.running.stage import run_stage


def main() -> None:
    """Evaluate θ₀ on every task and the control, and each θ₀ + τₜ on its own task."""
    with run_stage() as stage:
        model, paradigm, unmerged = stage.keys("model", "paradigm", "unmerged")
        params = stage.params
        inputs = read_inputs(params, model, paradigm, unmerged)
        benchmarks = inputs.benchmarks([*params.tasks, params.control], "test")
        zero_shot, single = evaluate_single_task(inputs.space, benchmarks)

        control = {params.control: zero_shot.pop(params.control)}
        recorder = Recorder(model, params.seed, paradigm=paradigm)
        intervals = params.intervals
        rows = measure_accuracy(recorder, "zero_shot", "none", zero_shot, intervals)
        rows += measure_accuracy(recorder, "zero_shot", "none", control, intervals)[:1]
        rows += measure_accuracy(recorder, "single_task", "none", single, intervals)
        path = layout.correctness(model, paradigm, "single_task")
        write_correct(
            path, {"zero_shot": {**zero_shot, **control}, "single_task": single}, {"model": model, "paradigm": paradigm}
        )
        write_results(stage, rows)


if __name__ == "__main__":
    main()
