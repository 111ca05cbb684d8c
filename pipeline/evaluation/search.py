"""The choice of coefficients, on ``val`` only.

Addition: one α for the sum of all task vectors, or one per task vector. Negation: one α of −τ for each task. Grids
ascend and the first of equals wins, so ties go to the smaller α.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.config import Grid
from pipeline.editing.spaces import EditSpace
from pipeline.errors import UserError
from pipeline.evaluation.prediction import Benchmark, predict


@dataclass(frozen=True)
class AdditionSearch:
    """The curve of the summed task vectors over the grid, and the α of its highest mean normalised accuracy.

    single: ``[tasks]``, accuracies of the single-task models, the denominators of normalised accuracy.
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


def single_task_accuracies(space: EditSpace, benchmarks: Sequence[Benchmark]) -> Float[np.ndarray, " tasks"]:
    """Return the accuracy of each single-task model on its own task.

    Args:
        space: the edit space, with one task vector per benchmark in the same order.
        benchmarks: the same split of every task.
    """
    edits = torch.eye(space.size)
    return np.array(
        [
            float(_accuracies(space, edit[None], [benchmark], f"single-task {benchmark.task} on val")[0, 0])
            for edit, benchmark in zip(edits, benchmarks, strict=True)
        ]
    )


def search_addition(
    space: EditSpace, benchmarks: Sequence[Benchmark], grid: Grid, single: Float[np.ndarray, " tasks"]
) -> AdditionSearch:
    """Evaluate the sum of all task vectors at every α of the grid.

    Args:
        space: has one task vector per benchmark, or their merged vector alone.
        benchmarks: the ``val`` split of every task.
        grid: the α to try.
        single: accuracies of the single-task models on the benchmarks, the denominators of normalised accuracy.

    Raises:
        UserError: a single-task model classifies nothing correctly, so that accuracy cannot be normalised.
    """
    for benchmark, accuracy in zip(benchmarks, single, strict=True):
        if accuracy == 0:
            raise UserError(
                f"task {benchmark.task}: its single-task model classifies no val image correctly, so accuracy cannot "
                "be normalised; train it longer (epochs, finetune.lr) or leave the task out"
            )
    alphas = grid.values()
    return _with_choice(alphas, single, _addition(space, benchmarks, alphas))


def refine_addition(
    search: AdditionSearch, space: EditSpace, benchmarks: Sequence[Benchmark], rounds: int
) -> AdditionSearch:
    """Halve the step of an equally spaced grid around its best α, ``rounds`` times, within the ends of the grid.

    A round evaluates the α half a step below and above the best one so far. The result equals that of the finer grid
    if accuracy has a single peak.

    Args:
        search: the search over the grid.
        space, benchmarks: as for :func:`search_addition`.
        rounds: how often the step is halved.
    """
    first, last = search.alphas[0], search.alphas[-1]
    step = (last - first) / max(len(search.alphas) - 1, 1)
    for _ in range(rounds if step > 0 else 0):
        step /= 2
        around = (round(search.alpha - step, 10), round(search.alpha + step, 10))
        alphas = [alpha for alpha in around if first <= alpha <= last]
        accuracy = np.concatenate([search.accuracy, _addition(space, benchmarks, alphas)])
        order = np.argsort(tried := [*search.alphas, *alphas])
        search = _with_choice([tried[position] for position in order], search.single, accuracy[order])
    return search


def search_per_task(
    space: EditSpace, benchmarks: Sequence[Benchmark], common: AdditionSearch, rounds: int
) -> list[float]:
    """Choose one α per task vector: a coordinate search from the common α, each coordinate over the grid in turn.

    It ends when a round over all tasks changes nothing, or after ``rounds``. Each step maximises mean normalised
    accuracy, and changes the coefficient only if that improves.

    Args:
        space: the edit space, with one task vector per benchmark in the same order.
        benchmarks: the ``val`` split of every task.
        common: the search for a common α on the same benchmarks.
        rounds: maximum number of rounds over all tasks.
    """
    alphas = [common.alpha] * len(benchmarks)
    best = float(common.normalised[common.alphas.index(common.alpha)].mean())
    for _ in range(rounds):
        before = list(alphas)
        for position in range(len(alphas)):
            coefficients = torch.tensor(alphas).repeat(len(common.alphas), 1)
            coefficients[:, position] = torch.tensor(common.alphas)
            accuracy = _accuracies(space, coefficients, benchmarks, "an α per task on val")
            normalised = (accuracy / common.single).mean(axis=1)
            chosen = select_addition(normalised)
            if normalised[chosen] > best:
                best, alphas[position] = float(normalised[chosen]), common.alphas[chosen]
        if alphas == before:
            break
    return alphas


def search_negation(
    space: EditSpace, position: int, benchmark: Benchmark, control: Benchmark, grid: Grid, retention: float
) -> NegationSearch:
    """Evaluate −α τ at every α of the grid (and at α = 0) on the task and on the control task.

    Args:
        space: the edit space, with the task vectors.
        position: position of the negated task's vector in the space.
        benchmark: the ``val`` split of the task.
        control: the ``val`` split of the control task.
        grid: the α to try.
        retention: the share of the pre-trained control accuracy to keep.
    """
    alphas = sorted({0.0, *grid.values()})
    coefficients = torch.zeros(len(alphas), space.size)
    coefficients[:, position] = -torch.tensor(alphas)
    target, kept = _accuracies(space, coefficients, [benchmark, control], f"negation of {benchmark.task}").T
    chosen = select_negation(target, kept, retention * kept[0])
    feasible = bool((kept[1:] >= retention * kept[0]).any())
    return NegationSearch(alphas, target, kept, alphas[chosen], feasible)


def select_addition(mean_normalised: Float[np.ndarray, " alphas"]) -> int:
    """Return the position of the highest mean normalised accuracy, the first of equals; NaN never wins.

    Raises:
        UserError: every entry is NaN.
    """
    if np.isnan(mean_normalised).all():
        raise UserError("no α gives a normalised accuracy: all are NaN; check the task vectors")
    return int(np.nanargmax(mean_normalised))


def select_negation(
    target: Float[np.ndarray, " alphas"], control: Float[np.ndarray, " alphas"], threshold: float
) -> int:
    """Return the position of the lowest target accuracy among those with control accuracy of at least ``threshold``.

    The first of equals wins, NaN never does; if none qualifies, it is position 0, where α = 0.
    """
    qualifies = (control >= threshold) & ~np.isnan(target)
    return int(np.argmin(np.where(qualifies, target, np.inf)))


def _addition(
    space: EditSpace, benchmarks: Sequence[Benchmark], alphas: Sequence[float]
) -> Float[np.ndarray, "alphas tasks"]:
    """Return the accuracies of all vectors of the space with the same coefficient, for each of several."""
    coefficients = torch.tensor(alphas)[:, None].expand(-1, space.size)
    return _accuracies(space, coefficients, benchmarks, "addition on val")


def _with_choice(
    alphas: list[float], single: Float[np.ndarray, " tasks"], accuracy: Float[np.ndarray, "alphas tasks"]
) -> AdditionSearch:
    normalised = accuracy / single
    return AdditionSearch(alphas, single, accuracy, normalised, alphas[select_addition(normalised.mean(axis=1))])


def _accuracies(
    space: EditSpace, coefficients: Float[Tensor, "edits tasks"], benchmarks: Sequence[Benchmark], description: str
) -> Float[np.ndarray, "edits benchmarks"]:
    predictions = predict(space, coefficients, benchmarks, description)
    return np.stack([predictions[benchmark.task].accuracy() for benchmark in benchmarks], axis=1)
