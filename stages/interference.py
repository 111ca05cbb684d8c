"""interference@model-paradigm: τJp of every task vector on every task's images, and the accuracy lost by adding it."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Shaped

from artifacts.evaluation.benchmarks import read_inputs
from artifacts.evaluation.edit_spaces import read_tangent_space
from pipeline.analysis.interference import Interference, measure_interference
from pipeline.config import Parameters
from pipeline.evaluation.prediction import Benchmark, predict
from pipeline.measurements import Recorder
from tauflow.running.results import write_results
from tauflow.running.stage import run_stage


def main() -> None:
    """Evaluate θ₀ and each θ₀ + τₜ on a sample of every task's test images."""
    with run_stage() as stage:
        model, paradigm, recipe = stage.keys("model", "paradigm", "recipe")
        params = stage.params
        inputs = read_inputs(params, model, paradigm, recipe)
        features = _tangent_features(params, model, paradigm, recipe)
        coefficients = torch.cat([torch.zeros(1, inputs.space.size), torch.eye(inputs.space.size)])
        interferences = {}
        for task in (*params.tasks, params.control):
            benchmark = inputs.benchmark(task, "test").sample(params.analysis.images, params.analysis.seed)
            predictions = predict(inputs.space, coefficients, [benchmark], f"images of {task}")
            correct = predictions[task].correct()
            moved = np.linalg.norm(features(benchmark), axis=2).T[1:]
            interferences[task] = Interference(moved, correct[0], correct[1:])
        recorder = Recorder(model, params.seed, paradigm=paradigm)
        rows = measure_interference(recorder, params.tasks, interferences, params.intervals)
        write_results(stage, rows)


def _tangent_features(
    params: Parameters, model: str, paradigm: str, recipe: str
) -> Callable[[Benchmark], Shaped[np.ndarray, "n parts features"]]:
    """Return a function that computes f₀(x) and J(x) τₜ of a benchmark; in tangent space they are its inputs."""
    if params.paradigm[paradigm].evaluated_in == "tangent":
        return lambda benchmark: benchmark.inputs
    space = read_tangent_space(params, model, recipe)

    def propagate(benchmark: Benchmark) -> Shaped[np.ndarray, "n parts features"]:
        return torch.cat(list(space.features(torch.from_numpy(benchmark.inputs)))).cpu().numpy()

    return propagate


if __name__ == "__main__":
    main()
