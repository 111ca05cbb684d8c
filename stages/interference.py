"""interference@model-paradigm: τJp of every task vector on every task's images, and what adding it costs them."""

from collections.abc import Callable

import numpy as np
import torch
import typer
from jaxtyping import Shaped

from pipeline.analysis.interference import Interference, measure_interference
from pipeline.config import Parameters
from pipeline.evaluation import Benchmark, predict
from pipeline.measurements import Recorder
from stages.edits import read_tangent_space
from stages.inputs import read_inputs
from stages.outputs import write_results
from tauflow import layout
from tauflow.stage import run_stage


def main(model: str, paradigm: str, recipe: str) -> None:
    """Evaluate θ₀ and each θ₀ + τₜ on a sample of every task's test images."""
    used = ["paradigm", "tasks", "control", "analysis", "intervals"]
    with run_stage("interference", model, paradigm, used=used) as stage:
        params = stage.params
        inputs = read_inputs(params, model, paradigm, recipe)
        features = _tangent_features(params, model, paradigm, recipe)
        coefficients = torch.cat([torch.zeros(1, inputs.space.size), torch.eye(inputs.space.size)])
        found = {}
        for task in (*params.tasks, params.control):
            benchmark = inputs.benchmark(task, "test").sample(params.analysis.images, params.analysis.seed)
            settings = params.evaluation
            predictions = predict(inputs.space, coefficients, [benchmark], settings.batch_size, f"images of {task}")
            correct = predictions[task].correct()
            moved = np.linalg.norm(features(benchmark), axis=2).T[1:]
            found[task] = Interference(moved, correct[0], correct[1:])
        rows = measure_interference(Recorder(model, paradigm, params.seed), params.tasks, found, params.intervals)
        table = layout.analyses(model, paradigm) / "interference.csv"
        write_results(stage, table, layout.metrics(model, paradigm, "interference"), rows)


def _tangent_features(
    params: Parameters, model: str, paradigm: str, recipe: str
) -> Callable[[Benchmark], Shaped[np.ndarray, "n parts features"]]:
    """What gives f₀(x) and J(x) τₜ of a benchmark: in tangent space, what its inputs are."""
    if params.paradigm[paradigm].evaluated_in == "tangent":
        return lambda benchmark: benchmark.inputs
    space = read_tangent_space(params, model, recipe)
    settings = params.evaluation

    def propagate(benchmark: Benchmark) -> Shaped[np.ndarray, "n parts features"]:
        batches = space.features(torch.from_numpy(benchmark.inputs), settings.batch_size, settings.directions)
        return torch.cat(list(batches)).cpu().numpy()

    return propagate


if __name__ == "__main__":
    typer.run(main)
