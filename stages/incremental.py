"""incremental@model-paradigm-order: accuracies while tasks arrive one by one."""

import typer

from pipeline.analysis.incremental import evaluate_arrivals, incremental_curve, measure_arrival, summarise_order
from pipeline.evaluation.protocols import evaluate_single_task
from pipeline.measurements import Recorder, to_frame, write_frame
from stages.inputs import read_inputs
from tauflow import layout
from tauflow.stage import run_stage


def main(model: str, paradigm: str, recipe: str, order: str) -> None:
    """Choose α on val of the tasks so far after every arrival, and evaluate on their test images."""
    used = ["paradigm", "tasks", "search", "incremental", "intervals"]
    with run_stage("incremental", model, paradigm, order, used=used) as stage:
        params = stage.params
        inputs = read_inputs(params, model, paradigm, recipe)
        space, batch_size = inputs.space, params.evaluation.batch_size
        val, test = ({b.task: b for b in inputs.benchmarks(params.tasks, split)} for split in ("val", "test"))
        _, single = evaluate_single_task(space, list(test.values()), batch_size)
        name = f"order_{order}"
        grid = params.search.addition
        arrivals = list(evaluate_arrivals(space, params.arrivals[name], val, test, grid, batch_size))

        recorder = Recorder(model, paradigm, params.seed)
        measured = [measure_arrival(recorder, arrival, single, params.intervals) for arrival in arrivals]
        curve = incremental_curve(arrivals, measured)
        rows = summarise_order(recorder, name, curve, measured[-1])
        directory = layout.incremental(model, paradigm, order)
        write_frame(directory / "curve.csv", curve)
        write_frame(directory / "incremental.csv", to_frame(rows))
        for row in rows:
            stage.journal.metrics({f"incremental.{row.setting}.{row.metric}": row.value})
            print(f"{stage.name}: {row.setting} {row.metric} {row.value:.3f}")


if __name__ == "__main__":
    typer.run(main)
