"""The choice of coefficients against the rules, spelt out one by one."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.config import Grid
from pipeline.errors import UserError
from pipeline.evaluation.prediction import Benchmark
from pipeline.evaluation.search import (
    AdditionSearch,
    refine_addition,
    search_addition,
    search_negation,
    search_per_task,
    select_addition,
    select_negation,
    single_task_accuracies,
)
from pipeline.images import LabelledImages
from pipeline.models.heads import Head

accuracies = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, math.nan]), st.floats(0, 1))
curves = st.lists(accuracies, min_size=1, max_size=8)


@given(curves)
def test_addition_takes_the_highest_and_of_equals_the_first(curve: list[float]) -> None:
    best = None
    for position, value in enumerate(curve):
        if not math.isnan(value) and (best is None or value > curve[best]):
            best = position
    if best is None:
        with pytest.raises(UserError, match="all are NaN"):
            select_addition(np.array(curve))
    else:
        assert select_addition(np.array(curve)) == best


@given(st.lists(st.tuples(accuracies, accuracies), min_size=1, max_size=8), st.floats(0, 1))
def test_negation_takes_the_lowest_that_keeps_the_control(curve: list[tuple[float, float]], threshold: float) -> None:
    best = None
    for position, (target, control) in enumerate(curve):
        keeps = not math.isnan(control) and control >= threshold
        if keeps and not math.isnan(target) and (best is None or target < curve[best][0]):
            best = position
    target, control = np.array(curve).T
    assert select_negation(target, control, threshold) == (best or 0)


def test_threshold_itself_is_kept() -> None:
    assert select_negation(np.array([0.9, 0.5]), np.array([1.0, 0.95]), 0.95) == 1
    assert select_negation(np.array([0.9, 0.5]), np.array([1.0, 0.9499]), 0.95) == 0


@dataclass
class TableSpace:
    """Edits of one image per class whose embedding looks up a table: the class that each task's edit predicts.

    ``table`` says, for an edit and an image, which class its embedding points to.
    """

    size: int
    table: Callable[[list[float], int], int]
    device: torch.device = torch.device("cpu")  # noqa: RUF009
    batch_size: int = 7

    def embeddings(self, coefficients: Tensor, batches: Sequence[Tensor]) -> Iterator[tuple[int, int, Tensor]]:
        for edit, row in enumerate(coefficients):
            rounded = [round(a, 6) for a in row.tolist()]
            for batch, images in enumerate(batches):
                classes = [self.table(rounded, int(number)) for number in images[:, 0, 0, 0]]
                yield edit, batch, torch.nn.functional.one_hot(torch.tensor(classes), 2).float()


def benchmark(task: str, first: int, n: int) -> Benchmark:
    """Images that hold their own numbers from ``first`` on; all are of class 1."""
    images = np.zeros((n, 3, 1, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(first, first + n)
    return Benchmark.of_images(
        task, LabelledImages(images, np.ones(n, np.int64)), Head(torch.eye(2), ["wrong", "right"])
    )


def search(space: TableSpace, benchmarks: list[Benchmark], grid: Grid) -> AdditionSearch:
    """Search α of the sum, normalised by the space's own single-task models."""
    return search_addition(space, benchmarks, grid, single_task_accuracies(space, benchmarks))


def grid(points: int = 5, most: float = 1.0, least: float = 0.0) -> Grid:
    return Grid(min=least, max=most, points=points)


# How many of the task's ten images are right at each α of the sum; tasks a and b.
RIGHT = {0.0: (2, 5), 0.25: (4, 6), 0.5: (8, 4), 0.75: (9, 4), 1.0: (9, 1)}
SINGLE = {"a": 10, "b": 8}


def addition_table(edit: list[float], number: int) -> int:
    task, place = divmod(number, 10)
    if edit[0] == edit[1]:
        return int(place < RIGHT[edit[0]][task])
    assert edit[task] == 1  # a single-task model is evaluated on its own task only
    assert edit[1 - task] == 0
    return int(place < (10, 8)[task])


def test_addition_search() -> None:
    benchmarks = [benchmark("a", 0, 10), benchmark("b", 10, 10)]
    choice = search(TableSpace(2, addition_table), benchmarks, grid())
    assert choice.alphas == list(RIGHT)
    np.testing.assert_allclose(choice.accuracy, [[a / 10, b / 10] for a, b in RIGHT.values()])
    np.testing.assert_allclose(choice.normalised, [[a / 10, b / 8] for a, b in RIGHT.values()])
    # Means of the normalised accuracies: .4125, .575, .65, .7, .5125
    assert choice.alpha == 0.75


def test_addition_search_normalises_before_it_averages() -> None:
    """With absolute accuracies, task b's few right images would not count and α = 1 would win."""

    def table(edit: list[float], number: int) -> int:
        task, place = divmod(number, 10)
        if edit[0] != edit[1]:
            return int(place < (10, 1)[task])
        return int(place < {0.0: (5, 1), 1.0: (7, 0)}[edit[0]][task])

    choice = search(TableSpace(2, table), [benchmark("a", 0, 10), benchmark("b", 10, 10)], grid(points=2))
    assert choice.alpha == 0


def test_addition_search_with_a_useless_single_task_model() -> None:
    space = TableSpace(1, lambda edit, number: 0)
    with pytest.raises(UserError, match=r"^task a: its single-task model classifies no val image correctly"):
        search(space, [benchmark("a", 0, 10)], grid())


def test_addition_is_normalised_by_the_models_that_are_given() -> None:
    """Such as those of the vectors before they were merged."""
    benchmarks = [benchmark("a", 0, 10), benchmark("b", 10, 10)]

    def table(edit: list[float], number: int) -> int:
        assert edit[0] == edit[1]  # the space's own single-task models are not asked
        return addition_table(edit, number)

    choice = search_addition(TableSpace(2, table), benchmarks, grid(), np.array([1.0, 0.1]))
    np.testing.assert_allclose(choice.normalised, [[a / 10, b / 1] for a, b in RIGHT.values()])
    assert choice.alpha == 0.25


def peak(at: float) -> TableSpace:
    """A merged vector whose accuracy on ten images falls by one image for every 0.1 between α and ``at``."""
    return TableSpace(1, lambda edit, number: int(number < 10 - round(abs(edit[0] - at) * 10)))


@pytest.mark.parametrize("at", [0.0, 0.1, 0.3, 0.4, 0.7, 0.8])
def test_refining_finds_what_the_finer_grid_finds(at: float) -> None:
    space, val, single = peak(at), [benchmark("a", 0, 10)], np.array([0.5])
    coarse = search_addition(space, val, grid(points=3, most=0.8), single)
    refined = refine_addition(coarse, space, val, 2)
    fine = search_addition(space, val, grid(points=9, most=0.8), single)
    assert refined.alpha == fine.alpha == at
    assert refined.alphas == sorted(set(refined.alphas))
    assert set(refined.alphas) <= set(fine.alphas)
    assert 4 <= len(refined.alphas) <= 3 + 2 * 2  # at an end of the grid there is one neighbour
    rows = [fine.alphas.index(alpha) for alpha in refined.alphas]
    np.testing.assert_array_equal(refined.accuracy, fine.accuracy[rows])
    np.testing.assert_array_equal(refined.normalised, fine.normalised[rows])


def test_refining_prefers_the_smaller_of_equals_and_leaves_one_point_alone() -> None:
    space, val, single = TableSpace(1, lambda edit, number: 1), [benchmark("a", 0, 10)], np.array([0.5])
    assert refine_addition(search_addition(space, val, grid(), single), space, val, 3).alpha == 0
    assert refine_addition(search_addition(space, val, grid(), single), space, val, 0).alphas == grid().values()
    alone = search_addition(space, val, grid(points=1, most=0.5, least=0.5), single)
    assert refine_addition(alone, space, val, 3).alphas == [0.5]


# How many of ten images of the task, and of twenty of the control, are right at each −α.
TARGET = {0.0: 9, -0.25: 7, -0.5: 3, -0.75: 3, -1.0: 0}
CONTROL = {0.0: 20, -0.25: 20, -0.5: 19, -0.75: 19, -1.0: 18}


def negation_table(edit: list[float], number: int) -> int:
    assert edit[0] == 0  # only the second task's vector moves
    coefficient = edit[1]
    return int(number < TARGET[coefficient]) if number < 10 else int(number - 10 < CONTROL[coefficient])


@pytest.mark.parametrize(
    ("retention", "alpha"),
    [(0.95, 0.5), (0.9, 1.0), (0.96, 0.25), (1.0, 0.25), (0.0, 1.0)],
)
def test_negation_search(retention: float, alpha: float) -> None:
    task, control = benchmark("a", 0, 10), benchmark("control", 10, 20)
    choice = search_negation(TableSpace(2, negation_table), 1, task, control, grid(), retention)
    assert choice.alphas == [0, 0.25, 0.5, 0.75, 1]
    np.testing.assert_allclose(choice.target, [n / 10 for n in TARGET.values()])
    np.testing.assert_allclose(choice.control, [n / 20 for n in CONTROL.values()])
    assert choice.alpha == alpha
    assert choice.feasible


def test_negation_without_a_feasible_alpha_is_zero() -> None:
    def table(edit: list[float], number: int) -> int:
        return int(edit[1] == 0)

    task, control = benchmark("a", 0, 10), benchmark("control", 10, 20)
    choice = search_negation(TableSpace(2, table), 1, task, control, grid(), 0.95)
    assert choice.alpha == 0
    assert not choice.feasible


def test_negation_grid_that_starts_above_zero_still_has_zero() -> None:
    """Its control accuracy is what the others must keep."""

    def table(edit: list[float], number: int) -> int:
        return int(edit[0] == 0)

    task, control = benchmark("a", 0, 10), benchmark("control", 10, 20)
    choice = search_negation(TableSpace(1, table), 0, task, control, grid(points=2, least=0.5), 0.95)
    assert choice.alphas == [0, 0.5, 1]
    assert choice.alpha == 0
    assert not choice.feasible


def test_negation_may_go_beyond_one() -> None:
    def table(edit: list[float], number: int) -> int:
        return int(number >= 10 or number < 10 + 3 * edit[0])

    task, control = benchmark("a", 0, 10), benchmark("control", 10, 20)
    choice = search_negation(TableSpace(1, table), 0, task, control, grid(points=7, most=3.0), 0.95)
    assert choice.alpha == 3.0
    assert choice.target.argmin() == 6


def per_task_table(edit: list[float], number: int) -> int:
    """Task a is right on the more images the nearer its own α is to 0.25 and b's to 0.75; task b likes b's at 0.5."""
    task, place = divmod(number, 10)
    if sorted(edit) == [0, 1]:
        return int(place < 10)
    misses = 8 * abs(edit[0] - 0.25) + 4 * abs(edit[1] - 0.75) if task == 0 else 12 * abs(edit[1] - 0.5)
    return int(place < 10 - misses)


def accuracy_of(alphas: list[float]) -> float:
    """Mean accuracy of an edit by the table; the single-task models are always right."""
    return sum(per_task_table(alphas, number) for number in range(20)) / 20


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_an_alpha_per_task_is_a_coordinate_search(rounds: int) -> None:
    """Coordinate by coordinate over the grid, from the common α; a change must be better than what there was."""
    benchmarks = [benchmark("a", 0, 10), benchmark("b", 10, 10)]
    space = TableSpace(2, per_task_table)
    common = search(space, benchmarks, grid())
    expected = [common.alpha] * 2
    for _ in range(rounds):
        for coordinate in range(2):
            for alpha in grid().values():
                tried = [alpha if i == coordinate else value for i, value in enumerate(expected)]
                if accuracy_of(tried) > accuracy_of(expected):
                    expected = tried
    assert search_per_task(space, benchmarks, common, rounds) == expected
    assert expected != [common.alpha] * 2


def test_without_rounds_all_tasks_keep_the_common_alpha() -> None:
    benchmarks = [benchmark("a", 0, 10), benchmark("b", 10, 10)]
    space = TableSpace(2, per_task_table)
    common = search(space, benchmarks, grid())
    assert search_per_task(space, benchmarks, common, 0) == [common.alpha] * 2
