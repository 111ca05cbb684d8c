"""negation@model-paradigm: each task vector negated, on the test splits of its task and of the control."""

import typer

from pipeline.evaluation import read_correct, write_correct
from pipeline.evaluation.protocols import Correct, evaluate_negation, is_near_chance, measure_negation
from pipeline.files import read_json
from pipeline.measurements import Recorder, Setting
from stages.inputs import read_inputs
from stages.outputs import write_results
from tauflow import layout
from tauflow.stage import run_stage

SETTINGS: tuple[Setting, ...] = ("tuned", "alpha_1")


def main(model: str, paradigm: str, recipe: str) -> None:
    """Evaluate −α τₜ at the chosen α and at α = 1; mark tasks that start near chance."""
    used = ["paradigm", "tasks", "control", "intervals"]
    with run_stage("negation", model, paradigm, used=used) as stage:
        params = stage.params
        inputs = read_inputs(params, model, paradigm, recipe)
        control = inputs.benchmark(params.control, "test")
        alphas = read_json(layout.metrics(model, paradigm, "alpha"))["alpha"]["negation"]
        zero_shot = read_correct(layout.correctness(model, paradigm, "single_task"), "zero_shot")
        recorder = Recorder(model, paradigm, params.seed)
        targets: dict[Setting, Correct] = {setting: {} for setting in SETTINGS}
        controls: dict[Setting, Correct] = {setting: {} for setting in SETTINGS}
        rows = []
        for position, task in enumerate(params.tasks):
            benchmark = inputs.benchmark(task, "test")
            edits: dict[Setting, float] = {"tuned": alphas[task], "alpha_1": 1.0}
            batch_size = params.evaluation.batch_size
            results = evaluate_negation(inputs.space, edits, position, benchmark, control, batch_size)
            for setting, (target, kept) in results.items():
                targets[setting] = {**targets[setting], task: target}
                controls[setting] = {**controls[setting], task: kept}
            rows.append(recorder.number("negation", "tuned", task, "alpha", alphas[task]))
            near_chance = is_near_chance(zero_shot[task], len(benchmark.head.classes))
            rows.append(recorder.number("negation", "none", task, "near_chance", float(near_chance)))
        for setting in SETTINGS:
            rows += measure_negation(recorder, setting, targets[setting], controls[setting], params.intervals)

        groups = {f"{setting}.target": targets[setting] for setting in SETTINGS}
        groups |= {f"{setting}.control": controls[setting] for setting in SETTINGS}
        write_correct(layout.correctness(model, paradigm, "negation"), groups, {"model": model})
        table = layout.measurements(model, paradigm) / "negation.csv"
        write_results(stage, table, layout.metrics(model, paradigm, "negation"), rows)


if __name__ == "__main__":
    typer.run(main)
