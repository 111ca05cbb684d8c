"""alpha_search@model-paradigm: the coefficients of addition and negation, chosen on val."""

import pandas as pd

from artifacts import layout
from artifacts.evaluation.benchmarks import read_inputs
from pipeline.evaluation.search import search_addition, search_negation, search_per_task, single_task_accuracies
from pipeline.io.files import write_json
from pipeline.measurements import write_frame
from tauflow.running.stage import run_stage


def main() -> None:
    """Evaluate every α of both grids; write the curves and the choice."""
    with run_stage() as stage:
        model, paradigm, recipe, unmerged = stage.keys("model", "paradigm", "recipe", "unmerged")
        params = stage.params
        reference = read_inputs(params, model, paradigm, unmerged)
        single = single_task_accuracies(reference.space, reference.benchmarks(params.tasks, "val"))
        inputs = reference if recipe == unmerged else read_inputs(params, model, paradigm, recipe)
        space, benchmarks = inputs.space, inputs.benchmarks(params.tasks, "val")
        control = inputs.benchmark(params.control, "val")
        addition = search_addition(space, benchmarks, params.search.addition, single)
        grid = params.paradigm[paradigm].negation_grid or params.search.negation
        retention = params.search.control_retention
        negation = {
            benchmark.task: search_negation(space, position, benchmark, control, grid, retention)
            for position, benchmark in enumerate(benchmarks)
        }

        for task, search in negation.items():
            if not search.feasible:
                print(
                    f"{stage.name}: no α of the negation grid keeps {params.search.control_retention:.0%} of the "
                    f"control accuracy for {task}; its α is 0, the pre-trained model. A finer grid may help."
                )
        measurements = layout.measurements(model, paradigm)
        curve = pd.DataFrame({"alpha": addition.alphas})
        curve["accuracy"] = addition.accuracy.mean(axis=1)
        curve["normalized"] = addition.normalised.mean(axis=1)
        for column, task in enumerate(params.tasks):
            curve[task] = addition.accuracy[:, column]
        write_frame(measurements / "addition_curve.csv", curve)
        for task, search in negation.items():
            points = {"alpha": search.alphas, "target": search.target, "control": search.control}
            write_frame(measurements / "negation_curves" / f"{task}.csv", pd.DataFrame(points))
        best = addition.alphas.index(addition.alpha)
        val = {
            "single_task": addition.single.mean(),
            "accuracy": addition.accuracy[best].mean(),
            "normalized": addition.normalised[best].mean(),
        }
        alphas = {"addition": addition.alpha, "negation": {task: n.alpha for task, n in negation.items()}}
        rounds = params.search.per_task_rounds
        if rounds > 0 and params.paradigm[paradigm].evaluated_in == "tangent":
            per_task = search_per_task(space, benchmarks, addition, rounds)
            alphas["per_task"] = dict(zip(params.tasks, per_task, strict=True))
        rounded = {metric: round(float(value), 6) for metric, value in val.items()}
        write_json(layout.metrics(model, paradigm, "alpha"), {"alpha": alphas, "val": rounded})
        stage.journal.metrics({"alpha.addition": addition.alpha})
        stage.journal.metrics({f"alpha.negation.{task}": n.alpha for task, n in negation.items()})
        for step, alpha in enumerate(addition.alphas):
            means = {"accuracy": addition.accuracy[step].mean(), "normalized": addition.normalised[step].mean()}
            stage.journal.metrics({"alpha": alpha, **{f"val.{k}": float(v) for k, v in means.items()}}, step)
        print(f"{stage.name}: addition at α = {addition.alpha}, negation at {alphas['negation']}")


if __name__ == "__main__":
    main()
