"""addition@model-paradigm: the sum of all task vectors on test, at the chosen α, at α = 1, and at one α per task."""

from artifacts import layout
from artifacts.evaluation.benchmarks import read_inputs
from pipeline.evaluation.correctness import read_correct, write_correct
from pipeline.evaluation.protocols import evaluate_addition, measure_accuracy, measure_normalised
from pipeline.io.files import read_json
from pipeline.measurements import Recorder, Setting, Subject
from tauflow.running.results import write_results
from tauflow.running.stage import run_stage


def main() -> None:
    """Evaluate all edits, and normalise by the single-task models on the same images."""
    with run_stage() as stage:
        model, paradigm, recipe = stage.keys("model", "paradigm", "recipe")
        params = stage.params
        inputs = read_inputs(params, model, paradigm, recipe)
        benchmarks = inputs.benchmarks(params.tasks, "test")
        chosen = read_json(layout.metrics(model, paradigm, "alpha"))["alpha"]
        single = read_correct(layout.correctness(model, paradigm, "single_task"), "single_task")
        common: dict[Setting, float] = {"tuned": chosen["addition"], "alpha_1": 1.0}
        edits: dict[Setting, list[float]] = {setting: [alpha] * inputs.space.size for setting, alpha in common.items()}
        if "per_task" in chosen:
            edits["per_task"] = [chosen["per_task"][task] for task in params.tasks]
        results = evaluate_addition(inputs.space, edits, benchmarks)

        recorder = Recorder(model, params.seed, paradigm=paradigm)
        rows = [recorder.number("addition", "tuned", Subject.of_mean(), "alpha", chosen["addition"])]
        for task, alpha in chosen.get("per_task", {}).items():
            rows.append(recorder.number("addition", "per_task", Subject.of_task(task), "alpha", alpha))
        for setting, correct in results.items():
            rows += measure_accuracy(recorder, "addition", setting, correct, params.intervals)
            rows += measure_normalised(recorder, "addition", setting, correct, single, params.intervals)
        write_correct(layout.correctness(model, paradigm, "addition"), results, {"model": model, "paradigm": paradigm})
        write_results(stage, rows)


if __name__ == "__main__":
    main()
