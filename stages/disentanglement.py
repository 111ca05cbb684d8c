"""disentanglement@model-paradigm: heatmaps of the disentanglement error for every pair of tasks."""

import itertools

import pandas as pd
import typer

from pipeline.analysis.disentanglement import Heatmap, disturbances, measure_disentanglement
from pipeline.measurements import Recorder, write_frame
from stages.inputs import read_inputs
from stages.outputs import write_results
from tauflow import layout
from tauflow.stage import run_stage


def main(model: str, paradigm: str, recipe: str) -> None:
    """Evaluate every point of the grid for every pair, on a sample of each task's test images."""
    used = ["paradigm", "tasks", "analysis", "disentanglement", "intervals"]
    with run_stage("disentanglement", model, paradigm, used=used) as stage:
        params = stage.params
        inputs = read_inputs(params, model, paradigm, recipe)
        alphas = params.disentanglement.grid.values()
        found = {}
        for position, task in enumerate(params.tasks):
            benchmark = inputs.benchmark(task, "test").sample(params.analysis.images, params.analysis.seed)
            edits = disturbances(inputs.space, benchmark, position, alphas, params.evaluation.batch_size)
            found |= {(position, other): disturbance for other, disturbance in edits}

        frames = []
        for a, b in itertools.combinations(range(len(params.tasks)), 2):
            points = Heatmap(found[a, b], found[b, a]).frame(alphas)
            points.insert(0, "first", params.tasks[a])
            points.insert(1, "second", params.tasks[b])
            frames.append(points)
        rows = measure_disentanglement(Recorder(model, paradigm, params.seed), params.tasks, found, params.intervals)
        write_frame(layout.analyses(model, paradigm) / "heatmaps.csv", pd.concat(frames))
        table = layout.analyses(model, paradigm) / "disentanglement.csv"
        write_results(stage, table, layout.metrics(model, paradigm, "disentanglement"), rows)
        stage.journal.artifact(layout.analyses(model, paradigm) / "heatmaps.csv")


if __name__ == "__main__":
    typer.run(main)
