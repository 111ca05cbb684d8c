"""negation@model-paradigm: each task vector negated, on the test splits of its task and of the control."""

from artifacts import layout
from artifacts.evaluation.benchmarks import read_inputs
from pipeline.evaluation.correctness import read_correct, write_correct
from pipeline.evaluation.protocols import CorrectByTask, evaluate_negation, is_near_chance, measure_negation
from pipeline.io.files import read_json
from pipeline.measurements import Recorder, Setting, Subject
from tauflow.running.results import write_results
from tauflow.running.stage import run_stage

SETTINGS: tuple[Setting, ...] = ("tuned", "alpha_1")


def main() -> None:
    """Evaluate −α τₜ at the chosen α and at α = 1; mark tasks that start near chance."""
    with run_stage() as stage:
        model, paradigm, recipe = stage.keys("model", "paradigm", "recipe")
        params = stage.params
        inputs = read_inputs(params, model, paradigm, recipe)
        control = inputs.benchmark(params.control, "test")
        alphas = read_json(layout.metrics(model, paradigm, "alpha"))["alpha"]["negation"]
        zero_shot = read_correct(layout.correctness(model, paradigm, "single_task"), "zero_shot")
        recorder = Recorder(model, params.seed, paradigm=paradigm)
        targets: dict[Setting, CorrectByTask] = {setting: {} for setting in SETTINGS}
        controls: dict[Setting, CorrectByTask] = {setting: {} for setting in SETTINGS}
        rows = []
        for position, task in enumerate(params.tasks):
            benchmark = inputs.benchmark(task, "test")
            edits: dict[Setting, float] = {"tuned": alphas[task], "alpha_1": 1.0}
            results = evaluate_negation(inputs.space, edits, position, benchmark, control)
            for setting, (target, kept) in results.items():
                targets[setting] = {**targets[setting], task: target}
                controls[setting] = {**controls[setting], task: kept}
            subject = Subject.of_task(task)
            rows.append(recorder.number("negation", "tuned", subject, "alpha", alphas[task]))
            near_chance = is_near_chance(zero_shot[task], len(benchmark.head.classes))
            rows.append(recorder.number("negation", "none", subject, "near_chance", float(near_chance)))
        for setting in SETTINGS:
            rows += measure_negation(recorder, setting, targets[setting], controls[setting], params.intervals)

        groups = {f"{setting}.target": targets[setting] for setting in SETTINGS}
        groups |= {f"{setting}.control": controls[setting] for setting in SETTINGS}
        write_correct(layout.correctness(model, paradigm, "negation"), groups, {"model": model, "paradigm": paradigm})
        write_results(stage, rows)


if __name__ == "__main__":
    main()
