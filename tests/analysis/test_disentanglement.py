"""The disentanglement error against a few lines that build every edited model."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from pipeline.analysis.disentanglement import Disturbance, Heatmap, disturbances, measure_disentanglement
from pipeline.config import EvaluationSettings, IntervalSettings
from pipeline.editing import TaskVector
from pipeline.editing.spaces import EditSpace, FeatureSpace, TangentSpace, WeightSpace
from pipeline.evaluation.prediction import Benchmark
from pipeline.images import LabelledImages
from pipeline.measurements import Recorder
from pipeline.models.encoders import ImageEncoder
from pipeline.models.heads import Head

CPU = torch.device("cpu")
SETTINGS = EvaluationSettings(batch_size=4, directions=2, edits=1)
ALPHAS = [-0.5, 0.0, 0.5]
TASKS = ["a", "b", "c"]
Found = dict[tuple[int, int], Disturbance]


@pytest.fixture
def vectors(make_vector: Callable[..., TaskVector]) -> list[TaskVector]:
    return [make_vector(seed, scale=0.15) for seed in range(3)]


@pytest.fixture
def benchmarks(make_images: Callable[..., LabelledImages], make_head: Callable[..., Head]) -> list[Benchmark]:
    return [
        Benchmark.of_images(task, make_images(9 + i, classes=3, seed=i), make_head(4, seed=i))
        for i, task in enumerate(TASKS)
    ]


def all_of(space: EditSpace, benchmarks: list[Benchmark]) -> Found:
    return {
        (position, other): disturbance
        for position, benchmark in enumerate(benchmarks)
        for other, disturbance in disturbances(space, benchmark, position, ALPHAS)
    }


def distances(
    encoder: ImageEncoder, vectors: list[TaskVector], benchmark: Benchmark, alone: list[float], both: list[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Per image: whether two edited models disagree, and their symmetrised KL divergence, by building both."""
    outputs = []
    for edit in (alone, both):
        model = {name: p.detach().clone() for name, p in encoder.visual.named_parameters()}
        for coefficient, vector in zip(edit, vectors, strict=True):
            model = vector.apply(model, coefficient)
        x = encoder.normalise(torch.from_numpy(benchmark.inputs))
        with torch.no_grad():
            outputs.append(torch.func.functional_call(encoder.visual, model, (x,)))
    classes = [(output @ benchmark.head.weight.T).argmax(dim=1).numpy() for output in outputs]
    p, q = (torch.softmax(output.double(), dim=1).numpy() for output in outputs)
    kl = ((p * np.log(p / q)).sum(axis=1) + (q * np.log(q / p)).sum(axis=1)) / 2
    return classes[0] != classes[1], kl


def test_it_is_what_building_every_model_gives(
    make_encoder: Callable[[], ImageEncoder], vectors: list[TaskVector], benchmarks: list[Benchmark]
) -> None:
    computed = all_of(WeightSpace(make_encoder(), vectors, CPU, SETTINGS), benchmarks)
    assert list(computed) == [(a, b) for a in range(3) for b in range(3) if a != b]
    encoder, seen = make_encoder(), 0
    for (own, other), disturbance in computed.items():
        for i, j in itertools.product(range(3), repeat=2):
            alone, both = [0.0] * 3, [0.0] * 3
            alone[own] = both[own] = ALPHAS[i]
            both[other] = ALPHAS[j]
            differs, kl = distances(encoder, vectors, benchmarks[own], alone, both)
            np.testing.assert_array_equal(disturbance.error[i, j], differs)
            np.testing.assert_allclose(disturbance.divergence[i, j], kl, rtol=1e-3, atol=1e-5)
            seen += differs.sum()
        ones = [float(position in (own, other)) for position in range(3)]
        single = [float(position == own) for position in range(3)]
        differs, _ = distances(encoder, vectors, benchmarks[own], single, ones)
        np.testing.assert_array_equal(disturbance.error_alpha_1, differs)
        assert disturbance.error[:, 1].sum() == 0  # nothing is added
    assert seen > 20


def test_tangent_features_give_the_same_as_direct_propagation(
    make_encoder: Callable[[], ImageEncoder], vectors: list[TaskVector], benchmarks: list[Benchmark]
) -> None:
    space = TangentSpace(make_encoder(), vectors, CPU, SETTINGS)
    features = [torch.cat(list(space.features(torch.from_numpy(b.inputs)))).numpy() for b in benchmarks]
    cached = [Benchmark(b.task, inputs, b.labels, b.head) for b, inputs in zip(benchmarks, features, strict=True)]
    direct, from_features = (
        all_of(space, benchmarks),
        all_of(FeatureSpace(3, CPU, SETTINGS.model_copy(update={"batch_size": 100})), cached),
    )
    for key, disturbance in direct.items():
        np.testing.assert_array_equal(from_features[key].error, disturbance.error)
        np.testing.assert_allclose(from_features[key].divergence, disturbance.divergence, rtol=1e-3, atol=1e-5)


def made(seed: int, n: int) -> Disturbance:
    random = np.random.default_rng(seed)
    error, divergence = random.random((3, 3, n)) < 0.05 * seed, random.random((3, 3, n), dtype=np.float32)
    return Disturbance(error, divergence, random.random(n) < 0.3)


def test_a_heatmap_adds_both_disturbances_at_the_same_point() -> None:
    """The first task's α is α₁ in both; each is the mean over its own images."""
    first, second = made(1, 5), made(9, 8)
    points = Heatmap(first, second).frame(ALPHAS).set_index(["alpha_1", "alpha_2"])
    for (i, one), (j, two) in itertools.product(enumerate(ALPHAS), repeat=2):
        expected = first.error[i, j].sum() / 5 + second.error[j, i].sum() / 8
        assert points.loc[(one, two), "error"] == pytest.approx(expected)
        expected = first.divergence[i, j].sum() / 5 + second.divergence[j, i].sum() / 8
        assert points.loc[(one, two), "divergence"] == pytest.approx(expected)


def test_summary_numbers(intervals: IntervalSettings) -> None:
    """Means over the grid and over pairs, from the heatmaps themselves; the interval from images drawn by hand."""
    n = {0: 40, 1: 50, 2: 60}
    by_pair = {(a, b): made(1 + 3 * a + b, n[a]) for a in range(3) for b in range(3) if a != b}
    measured = measure_disentanglement(Recorder("m", 0, paradigm="p"), TASKS, by_pair, intervals)
    rows = {(f"{r.task}+{r.other}" if r.scope == "pair" else r.scope, r.metric): r for r in measured}
    pairs = {
        (a, b): Heatmap(by_pair[a, b], by_pair[b, a]).frame(ALPHAS) for a, b in itertools.combinations(range(3), 2)
    }
    for (a, b), points in pairs.items():
        name = f"{TASKS[a]}+{TASKS[b]}"
        assert rows[name, "error"].value == pytest.approx(points["error"].mean())
        assert rows[name, "divergence"].value == pytest.approx(points["divergence"].mean(), rel=1e-5)
        assert rows[name, "area"].value == pytest.approx((points["error"] < 0.05).mean())
        at_one = by_pair[a, b].error_alpha_1.mean() + by_pair[b, a].error_alpha_1.mean()
        assert rows[name, "error_alpha_1"].value == pytest.approx(at_one)
    for metric in ("error", "divergence", "area", "error_alpha_1"):
        assert rows["mean", metric].value == pytest.approx(
            np.mean([rows[f"{TASKS[a]}+{TASKS[b]}", metric].value for a, b in pairs])
        )

    # A task's images are resampled once for both of its pairs.
    random = np.random.default_rng(0)
    draws = []
    for _ in range(2000):
        chosen = {task: random.integers(size, size=size) for task, size in n.items()}
        draws.append(sum(d.error.mean(axis=(0, 1))[chosen[own]].mean() for (own, _), d in by_pair.items()) / 3)
    low, high = np.quantile(draws, [0.025, 0.975])
    mean = rows["mean", "error"]
    assert mean.ci_low == pytest.approx(low, abs=0.1 * (high - low))
    assert mean.ci_high == pytest.approx(high, abs=0.1 * (high - low))
