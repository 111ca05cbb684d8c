"""incremental@model-paradigm-order: accuracies while tasks arrive one by one."""

from artifacts import layout
from artifacts.catalogue import measurements_of
from artifacts.evaluation.benchmarks import read_inputs
from pipeline.analysis.incremental import evaluate_arrivals, incremental_curve, measure_arrival, summarise_order
from pipeline.evaluation.protocols import evaluate_single_task
from pipeline.evaluation.search import single_task_accuracies
from pipeline.measurements import Recorder, to_frame, write_frame
from tauflow.running.stage import run_stage


def main() -> None:
    """After every arrival, choose α on val of the tasks so far, and evaluate on their test images."""
    with run_stage() as stage:
        model, paradigm, recipe, order = stage.keys("model", "paradigm", "recipe", "order")
        params = stage.params
        inputs = read_inputs(params, model, paradigm, recipe)
        space = inputs.space
        val, test = ({b.task: b for b in inputs.benchmarks(params.tasks, split)} for split in ("val", "test"))
        _, single = evaluate_single_task(space, list(test.values()))
        on_val = dict(zip(val, single_task_accuracies(space, list(val.values())), strict=True))
        name = f"order_{order}"
        grid = params.search.addition
        arrivals = list(evaluate_arrivals(space, params.derived.arrivals[name], val, test, grid, on_val))

        recorder = Recorder(model, params.seed, paradigm=paradigm)
        measured = [measure_arrival(recorder, arrival, single, params.intervals) for arrival in arrivals]
        curve = incremental_curve(arrivals, measured)
        rows = summarise_order(recorder, name, curve, measured[-1])
        directory = layout.incremental(model, paradigm, order)
        write_frame(directory / "curve.csv", curve)
        write_frame(measurements_of(stage.instance), to_frame(rows))
        for row in rows:
            stage.journal.metrics({f"incremental.{row.setting}.{row.metric}": row.value})
            print(f"{stage.name}: {row.setting} {row.metric} {row.value:.3f}")


if __name__ == "__main__":
    main()
