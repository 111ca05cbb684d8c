"""Merging methods beside the sum, against brute force: every merged model anew, in float64, and every α in turn."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.analysis.merging_grid import (
    MethodResult,
    check_methods,
    climb,
    describe_methods,
    evaluate_methods,
    measure_methods,
    propagate,
)
from pipeline.config import EvaluationSettings, Grid, IntervalSettings
from pipeline.editing import TaskVector
from pipeline.editing.spaces import EditSpace, FeatureSpace, TangentSpace, WeightSpace
from pipeline.errors import UserError
from pipeline.evaluation.prediction import Benchmark
from pipeline.evaluation.search import single_task_accuracies
from pipeline.images import LabelledImages
from pipeline.measurements import Recorder, Setting
from pipeline.merging import Step, merge_sum
from pipeline.models.encoders import ImageEncoder
from pipeline.models.heads import Head
from pipeline.models.registry import ModelDefinition
from pipeline.tangent import plain_attention
from tests.merging.brute_force import BRUTE_FORCE

CPU = torch.device("cpu")
SETTINGS = EvaluationSettings(batch_size=8, directions=2, edits=1)
TASKS, METHODS = ["a", "b", "c"], ["ties", "tsv_m", "iso_c", "wudi"]
GRID = Grid(min=0.0, max=2.0, points=5)
ROUNDS = 2


@pytest.fixture
def vectors(make_vector: Callable[..., TaskVector]) -> list[TaskVector]:
    task_vectors = [make_vector(seed, scale=0.3) for seed in range(3)]
    return [TaskVector(v.tensors, replace(v.provenance, tasks=(t,))) for t, v in zip(TASKS, task_vectors, strict=True)]


@pytest.fixture
def splits(
    make_images: Callable[..., LabelledImages], make_head: Callable[..., Head]
) -> tuple[list[Benchmark], list[Benchmark]]:
    """20 random images of four classes per task, for val and for test."""
    val, test = (
        [Benchmark.of_images(task, make_images(20, 4, 10 * split + i), make_head(4, i)) for i, task in enumerate(TASKS)]
        for split in range(2)
    )
    return val, test


class BruteForce:
    """Which images a model with another vector classifies correctly: of a copy in float64, in either space."""

    def __init__(self, encoder: ImageEncoder, definition: ModelDefinition, space: str) -> None:
        self.visual = copy.deepcopy(encoder.visual).double().eval()
        self.base = {name: parameter.detach() for name, parameter in self.visual.named_parameters()}
        self.mean, self.std = (torch.tensor(v).double().view(1, 3, 1, 1) for v in (definition.mean, definition.std))
        self.space = space

    def correct(self, vector: dict[str, np.ndarray], alpha: float, benchmark: Benchmark) -> np.ndarray:
        images = (torch.from_numpy(benchmark.inputs).double() / 255 - self.mean) / self.std
        moved = {name: alpha * torch.from_numpy(vector[name]) for name in self.base}

        def embed(weights: dict[str, torch.Tensor]) -> torch.Tensor:
            return torch.func.functional_call(self.visual, weights, (images,))

        with torch.no_grad(), plain_attention():
            if self.space == "weight":
                embedded = embed({name: self.base[name] + moved[name] for name in self.base})
            else:
                pretrained, change = torch.func.jvp(embed, (self.base,), (moved,))  # pyright: ignore[reportAssignmentType]
                embedded = pretrained + change
        scores = torch.nn.functional.normalize(embedded, dim=1) @ benchmark.head.weight.double().T
        return scores.argmax(dim=1).numpy() == benchmark.labels

    def mean_normalised(
        self, vector: dict[str, np.ndarray], alpha: float, val: Sequence[Benchmark], single: np.ndarray
    ) -> float:
        accuracy = np.array([self.correct(vector, alpha, benchmark).mean() for benchmark in val])
        return float((accuracy / single).mean())

    def best(self, vector: dict[str, np.ndarray], val: Sequence[Benchmark], single: np.ndarray) -> float:
        """The α that two halvings of the grid's step lead to; the smaller one of equals.

        In weight space what lies beyond the first fall is not looked at, nor the side that promises less if the other
        one is an improvement.
        """
        lattice = [i / 8 for i in range(17)]
        known = {alpha: self.mean_normalised(vector, alpha, val, single) for alpha in lattice}
        curve = {alpha: known[alpha] for alpha in (0.0, 0.5, 1.0, 1.5, 2.0)}
        if self.space == "weight":
            falls = [a for a in curve if known[a] < max(known[b] for b in curve if b <= a)]
            curve = {a: v for a, v in curve.items() if a <= min(falls, default=2.0)}
        for step in (0.25, 0.125):
            centre = min(alpha for alpha in curve if curve[alpha] == max(curve.values()))
            below, above = ((a, known[a]) for a in (max(centre - step, 0), min(centre + step, 2)))
            promises = curve.get(centre - 2 * step, -1.0) >= curve.get(centre + 2 * step, -1.0)
            first, second = (below, above) if promises else (above, below)
            one = self.space == "weight" and first[1] > curve[centre]
            curve |= dict([first] if one else [first, second])
        return min(alpha for alpha in curve if curve[alpha] == max(curve.values()))


@pytest.mark.parametrize("name", ["weight", "tangent"])
def test_every_method_equals_brute_force(
    name: str,
    vectors: list[TaskVector],
    splits: tuple[list[Benchmark], list[Benchmark]],
    make_encoder: Callable[[], ImageEncoder],
    tiny_definition: ModelDefinition,
) -> None:
    val, test = splits
    sums = [merge_sum(vectors, Step(method)) for method in METHODS]
    kind = WeightSpace if name == "weight" else TangentSpace
    single = single_task_accuracies(kind(make_encoder(), vectors, CPU, SETTINGS), val)
    space: EditSpace = kind(make_encoder(), sums, CPU, SETTINGS)
    inputs = (val, test)
    if name == "tangent":
        own = TangentSpace(make_encoder(), vectors, CPU, SETTINGS)
        stored = [
            [replace(b, inputs=torch.cat([*own.features(torch.from_numpy(b.inputs))]).numpy()) for b in split]
            for split in inputs
        ]
        inputs = (
            propagate(make_encoder(), sums, val, stored[0], SETTINGS),
            propagate(make_encoder(), sums, test, stored[1], SETTINGS),
        )
        space = FeatureSpace(len(sums), CPU, SETTINGS)
    actual = evaluate_methods(space, METHODS, *inputs, GRID, ROUNDS, single)

    exact = BruteForce(make_encoder(), tiny_definition, name)
    arrays = [{key: tensor.double().numpy() for key, tensor in v.tensors.items()} for v in vectors]
    own = [exact.correct(vector, 1.0, benchmark).mean() for vector, benchmark in zip(arrays, val, strict=True)]
    np.testing.assert_array_equal(single, own)
    assert list(actual) == METHODS
    for method, merged in actual.items():
        vector = BRUTE_FORCE[method](arrays)
        assert merged.alpha == exact.best(vector, val, np.array(own))
        alphas: dict[Setting, float] = {"tuned": merged.alpha, "alpha_1": 1.0}
        for setting, alpha in alphas.items():
            for benchmark in test:
                expected = exact.correct(vector, alpha, benchmark)
                np.testing.assert_array_equal(merged.correct[setting][benchmark.task], expected)


@given(st.floats(-1, 3), st.floats(0.1, 3), st.floats(0.1, 3))
def test_climbing_finds_what_the_whole_grid_finds_if_there_is_one_peak(peak: float, left: float, right: float) -> None:
    asked: list[float] = []

    def accuracy(alpha: float) -> float:
        asked.append(alpha)
        return 1 - (left if alpha < peak else right) * abs(alpha - peak)

    found = climb(accuracy, GRID, ROUNDS)
    assert len(set(asked)) == len(asked) <= 9
    curve = {alpha: accuracy(alpha) for alpha in (0.0, 0.5, 1.0, 1.5, 2.0)}
    for step in (0.25, 0.125):
        centre = min(alpha for alpha in curve if curve[alpha] == max(curve.values()))
        curve |= {a: accuracy(a) for a in (centre - step, centre + step) if 0 <= a <= 2}
    assert found == min(alpha for alpha in curve if curve[alpha] == max(curve.values()))


def test_the_merged_vector_is_the_sum_of_its_parts(vectors: list[TaskVector]) -> None:
    arrays = [{key: tensor.double().numpy() for key, tensor in v.tensors.items()} for v in vectors]
    for method in METHODS:
        merged = merge_sum(vectors, Step(method))
        assert merged.provenance.tasks == ("a", "b", "c")
        for key, expected in BRUTE_FORCE[method](arrays).items():
            np.testing.assert_allclose(merged.tensors[key].double(), expected, rtol=1e-4, atol=1e-6)


def correct(*shares: float) -> dict[str, np.ndarray]:
    """The first ones of eight images per task are right."""
    return {task: np.arange(8) < 8 * share for task, share in zip("ab", shares, strict=True)}


def test_rows() -> None:
    intervals = IntervalSettings(confidence=0.9, resamples=200, seed=0)
    results = {
        "sum": MethodResult(0.5, {"tuned": correct(0.5, 0.25), "alpha_1": correct(0.25, 0.25)}),
        "ties": MethodResult(2.0, {"tuned": correct(0.75, 0.25), "alpha_1": correct(0.25, 0.5)}),
        "iso_c": MethodResult(1.5, {"tuned": correct(0.5, 0.75), "alpha_1": correct(0.5, 0.5)}),
    }
    rows = measure_methods(Recorder("m", 3, paradigm="ntk"), results, correct(1.0, 0.5), intervals)
    assert {(row.model, row.seed, row.paradigm, row.recipe, row.benchmark) for row in rows} == {
        ("m", 3, "ntk", "", "merging")
    }
    actual = {(row.method, row.setting, row.metric, row.task or row.scope): row for row in rows}
    assert len(actual) == len(rows)
    assert [actual[method, "tuned", "alpha", "mean"].value for method in results] == [0.5, 2.0, 1.5]
    assert actual["ties", "tuned", "accuracy", "a"].value == 0.75
    assert actual["ties", "tuned", "accuracy", "mean"].value == 0.5
    assert actual["ties", "tuned", "normalized", "b"].value == 0.5
    assert actual["ties", "alpha_1", "normalized", "mean"].value == pytest.approx((0.25 + 1.0) / 2)
    # Pairs: each method minus those before it, in the mean over tasks.
    differences = {key: row.value for key, row in actual.items() if "_minus_" in key[2]}
    assert {subject for _, _, _, subject in differences} == {"mean"}
    assert {(method, metric) for method, _, metric, _ in differences} == {
        (method, f"{metric}_minus_{other}")
        for method, other in (("ties", "sum"), ("iso_c", "sum"), ("iso_c", "ties"))
        for metric in ("accuracy", "normalized")
    }
    assert differences["iso_c", "tuned", "accuracy_minus_ties", "mean"] == pytest.approx((-0.25 + 0.5) / 2)
    assert differences["ties", "tuned", "normalized_minus_sum", "mean"] == pytest.approx(0.25 / 2)
    row = actual["ties", "tuned", "accuracy_minus_sum", "mean"]
    assert row.ci_low is not None
    assert row.ci_high is not None
    assert row.ci_low >= 0  # no image of either task is right in the sum alone
    assert row.ci_low <= row.value <= row.ci_high

    described = describe_methods(results)
    assert described.to_dict("list") == {
        "method": ["sum", "ties", "iso_c"],
        "sees": ["own task"] * 3,
    }


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"tyes": {}}, "unknown merging method 'tyes'; choose from average, "),
        ({"iso_c": {}, "ties": {"kep": 0.1}}, "merging method ties: unknown option 'kep'; choose from keep"),
        ({"ties": {"keep": 2.0}}, "merging method ties: option keep is 2.0 but should be less than or equal to 1"),
        (
            {"wudi_steps": {"steps": 1.5}},
            "merging method wudi_steps: option steps is 1.5 but should be a valid integer",
        ),
        ({"ties": {"keep": [0.1]}}, "merging method ties: option keep is [0.1] but should be a valid number"),
        ({"regmean": {}}, "merging method regmean: needs images of every task; choose from average, "),
    ],
)
def test_methods_are_checked(methods: dict[str, dict[str, object]], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_methods(methods)
    assert str(caught.value).startswith(f"merging_grid.methods: {message}")


def test_the_study_s_methods_are_legal() -> None:
    check_methods({method: {} for method in METHODS})
    check_methods({"wudi_steps": {"steps": 300, "lr": 1e-5}, "tsv_m": {"in_proj": "split"}})
