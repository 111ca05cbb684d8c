"""Merging methods beside the plain sum of a paradigm's task vectors.

A merged vector has one coefficient α, chosen on ``val`` by the mean normalised accuracy, as that of the sum is, and
accuracy is measured on ``test``. What normalises it are the single-task models of the vectors before they are merged.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from pipeline.config import EvaluationSettings, Grid, IntervalSettings
from pipeline.editing import TaskVector
from pipeline.editing.spaces import EditSpace, FeatureSpace, Subset
from pipeline.errors import UserError
from pipeline.evaluation.comparison import measure_difference, outcomes
from pipeline.evaluation.prediction import Benchmark
from pipeline.evaluation.protocols import CorrectByTask, evaluate_addition, measure_accuracy, measure_normalised
from pipeline.evaluation.search import refine_addition, search_addition, select_addition
from pipeline.io.progress import progress
from pipeline.measurements import MEAN, Measurement, Recorder, Setting, Subject
from pipeline.merging import Step, check_steps, merging
from pipeline.models.encoders import ImageEncoder
from pipeline.tangent import linearise

SUM = "sum"
BENCHMARK = "merging"


@dataclass(frozen=True)
class MethodResult:
    """The results of one method.

    alpha: chosen on ``val``.
    correct: on ``test``, at the chosen α and at α = 1.
    """

    alpha: float
    correct: Mapping[Setting, CorrectByTask]


def check_methods(methods: Mapping[str, Mapping[str, Any]]) -> None:
    """Check the names and options of methods.

    Raises:
        UserError: one is unknown or wrong, or needs images.
    """
    for name, options in methods.items():
        try:
            check_steps(Step(name, options))
        except UserError as error:
            raise UserError(f"merging_grid.methods: {error}") from None


def propagate(
    encoder: ImageEncoder,
    vectors: Sequence[TaskVector],
    images: Sequence[Benchmark],
    stored: Sequence[Benchmark],
    settings: EvaluationSettings,
) -> list[Benchmark]:
    """Return the same splits with f₀(x) and J(x) τ of merged vectors as inputs, in memory.

    Args:
        encoder: at θ₀, on the device.
        vectors: the merged vectors.
        images: the splits, of images.
        stored: the same splits with stored tangent features of other vectors, from which f₀(x) is taken.
        settings: batch sizes.
    """
    linearised, device = linearise(encoder.visual), encoder.mean.device
    tangents = {name: torch.stack([v.tensors[name].to(device) for v in vectors]) for name in vectors[0].tensors}
    chunks = [
        {name: tensor[start : start + settings.directions] for name, tensor in tangents.items()}
        for start in range(0, len(vectors), settings.directions)
    ]
    propagated = []
    for split, known in progress(list(zip(images, stored, strict=True)), "features of merged vectors", len(images)):
        inputs = np.empty((len(split), 1 + len(vectors), known.inputs.shape[2]), np.float32)
        inputs[:, 0] = known.inputs[:, 0]
        start = 0
        for batch in torch.from_numpy(split.inputs).split(settings.batch_size):
            with torch.inference_mode():
                x = encoder.normalise(batch.to(device, non_blocking=True))
                moved = torch.cat([linearised.tangent(x, chunk) for chunk in chunks])
            inputs[start : start + len(batch), 1:] = moved.transpose(0, 1).cpu().numpy()
            start += len(batch)
        propagated.append(replace(split, inputs=inputs))
    return propagated


def evaluate_methods(
    space: EditSpace,
    methods: Sequence[str],
    val: Sequence[Benchmark],
    test: Sequence[Benchmark],
    grid: Grid,
    refinements: int,
    single: Float[np.ndarray, " tasks"],
) -> dict[str, MethodResult]:
    """Return the results of merged vectors by the method that made them.

    In tangent space every α of the grid is tried, before its step is halved around the best one. In weight space, where
    each α is a pass over the images, :func:`climb` leaves some out.

    Args:
        space: has the merged vector of each method, in the same order.
        methods: their names.
        val, test: the splits of every task.
        grid: the α to try.
        refinements: how often its step is halved around the best α.
        single: accuracies of the single-task models on ``val``, by which accuracies are normalised.

    Raises:
        UserError: a single-task model classifies nothing correctly, so that accuracy cannot be normalised.
    """
    results = {}
    for position, method in enumerate(methods):
        alone = Subset(space, [position])
        if isinstance(space, FeatureSpace):
            alpha = refine_addition(search_addition(alone, val, grid, single), alone, val, refinements).alpha
        else:
            alpha = climb(partial(_normalised, alone, val, single), grid, refinements)
        alphas: dict[Setting, Sequence[float]] = {"tuned": [alpha], "alpha_1": [1.0]}
        if alpha == 1:
            (correct,) = evaluate_addition(alone, {"tuned": [alpha]}, test).values()
            results[method] = MethodResult(alpha, dict.fromkeys(alphas, correct))
        else:
            results[method] = MethodResult(alpha, evaluate_addition(alone, alphas, test))
    return results


def _normalised(space: EditSpace, val: Sequence[Benchmark], single: Float[np.ndarray, " tasks"], alpha: float) -> float:
    """Return the mean normalised accuracy of the space's vectors at one α."""
    point = search_addition(space, val, Grid(min=alpha, max=alpha, points=1), single)
    return float(point.normalised.mean())


def climb(accuracy: Callable[[float], float], grid: Grid, refinements: int) -> float:
    """Return the α that a search of the whole grid and of the halves around its best α finds, if there is one peak.

    It walks up the grid until accuracy falls. Halving the step, it looks at the side of the better neighbour first, and
    at the other one only if that is no improvement.

    Args:
        accuracy: at an α, by which α is chosen; called once for each that is tried.
        grid, refinements: as for :func:`evaluate_methods`.
    """
    curve: dict[float, float] = {}

    def evaluate(alpha: float) -> float:
        if alpha not in curve:
            curve[alpha] = accuracy(alpha)
        return curve[alpha]

    def best() -> float:
        tried = sorted(curve)
        return tried[select_addition(np.array([curve[alpha] for alpha in tried]))]

    for alpha in grid.values():
        if evaluate(alpha) < evaluate(best()):
            break
    step = (grid.max - grid.min) / max(grid.points - 1, 1)
    for _ in range(refinements if step > 0 else 0):
        centre, step = best(), step / 2
        sides = [round(centre + sign * step, 10) for sign in (-1, 1) if grid.min <= centre + sign * step <= grid.max]
        neighbours = {side: curve.get(round(2 * side - centre, 10), -1.0) for side in sides}
        for side in sorted(sides, key=neighbours.__getitem__, reverse=True):
            if evaluate(side) > curve[centre]:
                break
    return best()


def measure_methods(
    recorder: Recorder, results: Mapping[str, MethodResult], single: CorrectByTask, settings: IntervalSettings
) -> list[Measurement]:
    """Measure accuracy, absolute and normalised, of each method, and paired differences from those before it.

    Args:
        recorder: names the model and the paradigm.
        results: by method.
        single: correctness of the single-task models on ``test``.
        settings: of the bootstrap over images.

    Returns:
        Rows per task and their mean; of differences only the mean.

    Raises:
        UserError: a single-task model classifies nothing correctly.
    """
    rows: list[Measurement] = []
    for method, merged in results.items():
        recorder = replace(recorder, method=method)
        rows.append(recorder.number(BENCHMARK, "tuned", Subject.of_mean(), "alpha", merged.alpha))
        for setting, correct in merged.correct.items():
            rows += measure_accuracy(recorder, BENCHMARK, setting, correct, settings)
            rows += measure_normalised(recorder, BENCHMARK, setting, correct, single, settings)
    for reference, method in itertools.combinations(results, 2):
        recorder = replace(recorder, method=method)
        for setting in results[method].correct:
            ours, theirs = (outcomes(results[m].correct[setting], single, list(single)) for m in (method, reference))
            differences = measure_difference(recorder, BENCHMARK, setting, ours, theirs, reference, settings)
            rows += [row for row in differences if row.scope == MEAN]
    return rows


def describe_methods(methods: Iterable[str]) -> pd.DataFrame:
    """Return a row per method: ``method``, and what it ``sees``."""
    return pd.DataFrame([{"method": method, "sees": merging.find(method).sees} for method in methods])
