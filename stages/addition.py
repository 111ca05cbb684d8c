"""addition@model-paradigm: the sum of all task vectors on test, at the chosen α, at α = 1, at one α per task."""

import typer

from pipeline.evaluation import read_correct, write_correct
from pipeline.evaluation.protocols import evaluate_addition, measure_accuracy, measure_normalised
from pipeline.files import read_json
from pipeline.measurements import MEAN, Recorder, Setting
from stages.inputs import read_inputs
from stages.outputs import write_results
from tauflow import layout
from tauflow.stage import run_stage


def main(model: str, paradigm: str, recipe: str) -> None:
    """Evaluate all edits; normalise by the single-task models on the same images."""
    with run_stage("addition", model, paradigm, used=["paradigm", "tasks", "intervals"]) as stage:
        params = stage.params
        inputs = read_inputs(params, model, paradigm, recipe)
        benchmarks = inputs.benchmarks(params.tasks, "test")
        chosen = read_json(layout.metrics(model, paradigm, "alpha"))["alpha"]
        single = read_correct(layout.correctness(model, paradigm, "single_task"), "single_task")
        common: dict[Setting, float] = {"tuned": chosen["addition"], "alpha_1": 1.0}
        edits: dict[Setting, list[float]] = {setting: [alpha] * inputs.space.size for setting, alpha in common.items()}
        if "per_task" in chosen:
            edits["per_task"] = [chosen["per_task"][task] for task in params.tasks]
        results = evaluate_addition(inputs.space, edits, benchmarks, params.evaluation.batch_size)

        recorder = Recorder(model, paradigm, params.seed)
        rows = [recorder.number("addition", "tuned", MEAN, "alpha", chosen["addition"])]
        for task, alpha in chosen.get("per_task", {}).items():
            rows.append(recorder.number("addition", "per_task", task, "alpha", alpha))
        for setting, correct in results.items():
            rows += measure_accuracy(recorder, "addition", setting, correct, params.intervals)
            rows += measure_normalised(recorder, "addition", setting, correct, single, params.intervals)
        write_correct(layout.correctness(model, paradigm, "addition"), results, {"model": model})
        table = layout.measurements(model, paradigm) / "addition.csv"
        write_results(stage, table, layout.metrics(model, paradigm, "addition"), rows)


if __name__ == "__main__":
    typer.run(main)
