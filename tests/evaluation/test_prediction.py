"""Predictions of edits against brute force."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.config import EvaluationSettings
from pipeline.editing import TaskVector
from pipeline.editing.spaces import EditSpace, WeightSpace
from pipeline.errors import UserError
from pipeline.evaluation.correctness import read_correct, write_correct
from pipeline.evaluation.prediction import NO_CLASS, Benchmark, Predictions, predict
from pipeline.images import LabelledImages
from pipeline.models.encoders import ImageEncoder
from pipeline.models.heads import Head

CPU = torch.device("cpu")
ImageFactory = Callable[..., LabelledImages]
HeadFactory = Callable[..., Head]


@dataclass
class PixelSpace:
    """An edit space of one linear layer on a 2 x 2 image: (w₀ + Σ aₜ wₜ) x. Counts what it is asked for."""

    base: Tensor
    moves: list[Tensor]
    device: torch.device = CPU
    batch_size: int = 5
    asked: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.moves)

    def embeddings(self, coefficients: Tensor, batches: Sequence[Tensor]) -> Iterator[tuple[int, int, Tensor]]:
        for batch, images in reversed(list(enumerate(batches))):  # a space may choose its order
            for edit, row in enumerate(coefficients):
                weight = self.base + sum(a * move for a, move in zip(row, self.moves, strict=True))
                self.asked.append((edit, batch))
                yield edit, batch, images.flatten(1).float() @ weight.T


@pytest.fixture
def space() -> PixelSpace:
    random = torch.Generator().manual_seed(0)
    base, *moves = torch.randn(3, 5, 12, generator=random)
    return PixelSpace(base, moves)


@pytest.fixture
def benchmarks(make_images: ImageFactory, make_head: HeadFactory) -> list[Benchmark]:
    return [
        Benchmark.of_images("a", make_images(7, classes=3, seed=1, size=2), make_head(3, seed=1, features=5)),
        Benchmark.of_images("b", make_images(12, classes=4, seed=2, size=2), make_head(4, seed=2, features=5)),
    ]


def brute_force(space: PixelSpace, edit: Tensor, benchmark: Benchmark) -> list[int]:
    """The class of the highest cosine, image by image, in float64."""
    weight = space.base.double().numpy().copy()
    for a, move in zip(edit.tolist(), space.moves, strict=True):
        weight += a * move.double().numpy()
    classes = []
    for image in benchmark.inputs:
        embedding = weight @ image.reshape(-1).astype(float)
        rows = benchmark.head.weight.double().numpy()
        cosines = [row @ embedding / np.linalg.norm(row) / np.linalg.norm(embedding) for row in rows]
        classes.append(max(range(len(cosines)), key=cosines.__getitem__))
    return classes


EDITS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, -0.5], [-2.0, 1.0]])


@pytest.mark.parametrize("batch_size", [1, 5, 12, 100])
def test_predictions_equal_brute_force(space: PixelSpace, benchmarks: list[Benchmark], batch_size: int) -> None:
    space.batch_size = batch_size
    predicted = predict(space, EDITS, benchmarks, "test")
    assert predicted.keys() == {"a", "b"}
    for benchmark in benchmarks:
        predictions = predicted[benchmark.task]
        expected = [brute_force(space, edit, benchmark) for edit in EDITS]
        np.testing.assert_array_equal(predictions.predicted, expected)
        np.testing.assert_array_equal(predictions.labels, benchmark.labels)
        right = [[p == t for p, t in zip(row, predictions.labels, strict=True)] for row in expected]
        np.testing.assert_array_equal(predictions.correct(), right)
        np.testing.assert_allclose(predictions.accuracy(), [sum(row) / len(row) for row in right])
    assert len({tuple(predicted["b"].predicted[edit]) for edit in range(len(EDITS))}) > 2


def test_each_image_is_embedded_once_per_edit(space: PixelSpace, benchmarks: list[Benchmark]) -> None:
    predict(space, EDITS, benchmarks, "test")
    batches = 2 + 3
    assert sorted(space.asked) == [(edit, batch) for edit in range(len(EDITS)) for batch in range(batches)]


def test_real_model(
    make_encoder: Callable[[], ImageEncoder],
    make_vector: Callable[..., TaskVector],
    make_images: ImageFactory,
    make_head: HeadFactory,
    evaluation: EvaluationSettings,
) -> None:
    """Against a model with the edited weights loaded, image by image."""
    vectors = [make_vector(0), make_vector(1, part="mlp")]
    benchmark = Benchmark.of_images("a", make_images(6, classes=3), make_head(3))
    predictions = predict(WeightSpace(make_encoder(), vectors, CPU, evaluation), EDITS, [benchmark], "test")["a"]
    for row, edit in enumerate(EDITS.tolist()):
        encoder = make_encoder()
        weights = dict(encoder.visual.state_dict())
        for a, vector in zip(edit, vectors, strict=True):
            weights = vector.apply(weights, a)
        encoder.visual.load_state_dict(weights)
        with torch.no_grad():
            embeddings = [encoder(torch.from_numpy(image)[None])[0] for image in benchmark.inputs]
        expected = [int((benchmark.head.weight @ embedding).argmax()) for embedding in embeddings]
        assert predictions.predicted[row].tolist() == expected


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_embedding_without_a_direction_predicts_no_class(
    broken: float, space: PixelSpace, benchmarks: list[Benchmark]
) -> None:
    space.moves[1] = torch.full_like(space.moves[1], broken)
    edits = torch.tensor([[0.5, 0.0], [0.5, 1.0]])
    space.moves[1][1:] = 0  # one feature of five is enough
    edits_without = edits[:, :1]
    clean = PixelSpace(space.base, space.moves[:1])
    predictions = predict(clean, edits_without, benchmarks, "test")
    broken_found = predict(space, edits[1:], benchmarks, "test")
    for task in ("a", "b"):
        assert (predictions[task].predicted >= 0).all()
        assert (broken_found[task].predicted == NO_CLASS).all()
        assert not broken_found[task].correct().any()
        assert broken_found[task].accuracy().tolist() == [0]


def test_no_class_is_never_correct() -> None:
    predictions = Predictions(np.array([[NO_CLASS, 0]], np.int16), np.array([0, 0]))
    assert predictions.accuracy().tolist() == [0.5]


def test_label_beyond_the_head(make_images: ImageFactory, make_head: HeadFactory) -> None:
    with pytest.raises(UserError, match=r"^task a: label 3, but its head has only 3 classes"):
        Benchmark.of_images("a", make_images(8, classes=4), make_head(3))


def test_pixel_space_is_an_edit_space(space: PixelSpace) -> None:
    assert isinstance(space, EditSpace)


def test_correctness_comes_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("correct") / "c.safetensors"
    tuned, alpha_1 = {"a": np.array([True, False]), "b": np.array([True])}, {"a": np.array([False, False])}
    write_correct(path, {"tuned": tuned, "alpha_1": alpha_1}, {"model": "tiny"})
    correct = read_correct(path, "tuned")
    assert {task: c.tolist() for task, c in correct.items()} == {"a": [True, False], "b": [True]}
    assert {task: c.tolist() for task, c in read_correct(path, "alpha_1").items()} == {"a": [False, False]}
    with pytest.raises(UserError, match="has no results for 'tune'") as error:
        read_correct(path, "tune")
    assert str(error.value).startswith(f"{path}: ")
