"""disentanglement@model-paradigm: heatmaps of the disentanglement error for every pair of tasks."""

import itertools

import pandas as pd

from artifacts import layout
from artifacts.evaluation.benchmarks import read_inputs
from pipeline.analysis.disentanglement import Heatmap, disturbances, measure_disentanglement
from pipeline.measurements import Recorder, write_frame
from tauflow.running.results import write_results
from tauflow.running.stage import run_stage


def main() -> None:
    """Evaluate every point of the grid for every pair, on a sample of each task's test images."""
    with run_stage() as stage:
        model, paradigm, recipe = stage.keys("model", "paradigm", "recipe")
        params = stage.params
        inputs = read_inputs(params, model, paradigm, recipe)
        alphas = params.disentanglement.grid.values()
        disturbed = {}
        for position, task in enumerate(params.tasks):
            benchmark = inputs.benchmark(task, "test").sample(params.analysis.images, params.analysis.seed)
            edits = disturbances(inputs.space, benchmark, position, alphas)
            disturbed |= {(position, other): disturbance for other, disturbance in edits}

        frames = []
        for a, b in itertools.combinations(range(len(params.tasks)), 2):
            points = Heatmap(disturbed[a, b], disturbed[b, a]).frame(alphas)
            points.insert(0, "first", params.tasks[a])
            points.insert(1, "second", params.tasks[b])
            frames.append(points)
        recorder = Recorder(model, params.seed, paradigm=paradigm)
        rows = measure_disentanglement(recorder, params.tasks, disturbed, params.intervals)
        write_frame(layout.analyses(model, paradigm) / "heatmaps.csv", pd.concat(frames))
        write_results(stage, rows)
        stage.journal.artifact(layout.analyses(model, paradigm) / "heatmaps.csv")


if __name__ == "__main__":
    main()
