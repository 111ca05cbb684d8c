"""Choosing coefficients, on ``val`` only.

Addition: one α for the sum of all task vectors. Negation: for each task one α of −τ. Grids ascend and the first of
equals wins, so ties go to the smaller α.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from pipeline.config import Grid
from pipeline.editing.spaces import EditSpace
from pipeline.errors import UserError
from pipeline.evaluation.prediction import Benchmark, predict


@dataclass(frozen=True)
class AdditionSearch:
    """The curve of the summed task vectors over the grid, and the α of its highest mean normalised accuracy.

    single: ``[tasks]``, accuracy of the single-task models, which normalises.
    accuracy, normalised: ``[alphas, tasks]``; tasks in the order of the benchmarks.
    """

    alphas: list[float]
    single: Float[np.ndarray, " tasks"]
    accuracy: Float[np.ndarray, "alphas tasks"]
    normalised: Float[np.ndarray, "alphas tasks"]
    alpha: float


@dataclass(frozen=True)
class NegationSearch:
    """The curve of one negated task vector over the grid, and the chosen α.

    target, control: ``[alphas]``, accuracies on the task and on the control task.
    feasible: whether any α > 0 of the grid keeps the control; if none does, α is 0.
    """

    alphas: list[float]
    target: Float[np.ndarray, " alphas"]
    control: Float[np.ndarray, " alphas"]
    alpha: float
    feasible: bool


def search_addition(space: EditSpace, benchmarks: Sequence[Benchmark], grid: Grid, batch_size: int) -> AdditionSearch:
    """Evaluate the sum of all task vectors at every α of the grid.

    Args:
        space: holds one task vector per benchmark, in the same order.
        benchmarks: every task's ``val`` split.
        grid: the α to try.
        batch_size: images per forward pass.

    Raises:
        UserError: a single-task model classifies nothing correctly, so that accuracy cannot be normalised.
    """
    single = np.array([_single_task(space, i, benchmarks, batch_size) for i in range(len(benchmarks))])
    alphas = grid.values()
    coefficients = torch.tensor(alphas)[:, None].expand(-1, len(benchmarks))
    predictions = predict(space, coefficients, benchmarks, batch_size, "addition on val")
    accuracy = np.stack([predictions[b.task].accuracy() for b in benchmarks], axis=1)
    normalised = accuracy / single
    return AdditionSearch(alphas, single, accuracy, normalised, alphas[select_addition(normalised.mean(axis=1))])


def search_per_task(
    space: EditSpace, benchmarks: Sequence[Benchmark], found: AdditionSearch, rounds: int, batch_size: int
) -> list[float]:
    """One α per task vector: a coordinate search from the common α, every coordinate over the grid in turn.

    It ends when a round over all tasks changes nothing, or after ``rounds``. Each step takes the highest mean
    normalised accuracy, and changes nothing unless that is higher than before.

    Args:
        space: holds one task vector per benchmark, in the same order.
        benchmarks: every task's ``val`` split.
        found: of the common α, on the same benchmarks.
        rounds: at most so many over all tasks.
        batch_size: images at once.
    """
    alphas = [found.alpha] * len(benchmarks)
    best = float(found.normalised[found.alphas.index(found.alpha)].mean())
    for _ in range(rounds):
        before = list(alphas)
        for position in range(len(alphas)):
            coefficients = torch.tensor(alphas).repeat(len(found.alphas), 1)
            coefficients[:, position] = torch.tensor(found.alphas)
            predictions = predict(space, coefficients, benchmarks, batch_size, "an α per task on val")
            accuracy = np.stack([predictions[b.task].accuracy() for b in benchmarks], axis=1)
            normalised = (accuracy / found.single).mean(axis=1)
            chosen = select_addition(normalised)
            if normalised[chosen] > best:
                best, alphas[position] = float(normalised[chosen]), found.alphas[chosen]
        if alphas == before:
            break
    return alphas


def search_negation(
    space: EditSpace,
    task: int,
    benchmark: Benchmark,
    control: Benchmark,
    grid: Grid,
    retention: float,
    batch_size: int,
) -> NegationSearch:
    """Evaluate −α τ at every α of the grid (and at α = 0) on the task and on the control task.

    Args:
        space: holds the task vectors.
        task: position of the negated task's vector in the space.
        benchmark: the task's ``val`` split.
        control: the control task's ``val`` split.
        grid: the α to try.
        retention: the share of the pre-trained control accuracy to keep.
        batch_size: images per forward pass.
    """
    alphas = sorted({0.0, *grid.values()})
    coefficients = torch.zeros(len(alphas), space.size)
    coefficients[:, task] = -torch.tensor(alphas)
    predictions = predict(space, coefficients, [benchmark, control], batch_size, f"negation of {benchmark.task}")
    target, kept = predictions[benchmark.task].accuracy(), predictions[control.task].accuracy()
    chosen = select_negation(target, kept, retention * kept[0])
    feasible = bool((kept[1:] >= retention * kept[0]).any())
    return NegationSearch(alphas, target, kept, alphas[chosen], feasible)


def select_addition(mean_normalised: Float[np.ndarray, " alphas"]) -> int:
    """Position of the highest mean normalised accuracy, the first of equals; NaN never wins.

    Raises:
        UserError: every entry is NaN.
    """
    if np.isnan(mean_normalised).all():
        raise UserError("no α gives a normalised accuracy: all are NaN; check the task vectors")
    return int(np.nanargmax(mean_normalised))


def select_negation(
    target: Float[np.ndarray, " alphas"], control: Float[np.ndarray, " alphas"], threshold: float
) -> int:
    """Position of the lowest target accuracy among those with control accuracy of at least ``threshold``.

    The first of equals wins, NaN never does; if nothing qualifies, position 0, which is α = 0.
    """
    qualifies = (control >= threshold) & ~np.isnan(target)
    return int(np.argmin(np.where(qualifies, target, np.inf)))


def _single_task(space: EditSpace, task: int, benchmarks: Sequence[Benchmark], batch_size: int) -> float:
    coefficients = torch.nn.functional.one_hot(torch.tensor([task]), space.size).float()
    benchmark = benchmarks[task]
    description = f"single-task {benchmark.task} on val"
    accuracy = predict(space, coefficients, [benchmark], batch_size, description)[benchmark.task].accuracy()[0]
    if accuracy == 0:
        raise UserError(
            f"task {benchmark.task}: its single-task model classifies no val image correctly, so accuracy cannot be "
            "normalised; train it longer (epochs, finetune.lr) or leave the task out"
        )
    return float(accuracy)
