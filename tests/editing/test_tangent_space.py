"""Edits of the linearised encoder, against direct propagation of each edit's own direction."""

from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.config import EvaluationSettings
from pipeline.editing import TaskVector
from pipeline.editing.spaces import TangentSpace, _factorise
from pipeline.images import LabelledImages
from pipeline.models.encoders import ImageEncoder
from pipeline.tangent import GenericTangent

CPU = torch.device("cpu")
SETTINGS = EvaluationSettings(batch_size=7, directions=2, edits=1)
GRID = [0.05 * i for i in range(21)]
VectorFactory = Callable[..., TaskVector]

# Coefficients over three task vectors, and in how many directions an image has to be propagated for them.
EDITS: dict[str, tuple[list[list[float]], int]] = {
    "none": ([[0, 0, 0]], 0),
    "none, twice": ([[0, 0, 0], [0, 0, 0]], 0),
    "one vector": ([[0, 0.7, 0]], 1),
    "a sum": ([[0.3, 0.3, 0.3]], 1),
    "α of the sum": ([[alpha] * 3 for alpha in GRID], 1),
    "α of the negated vector": ([[0, -alpha, 0] for alpha in GRID], 1),
    "α of an uneven sum": ([[alpha, 0, -2 * alpha] for alpha in (0.5, 1, 2, -4)], 1),
    "single tasks": ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], 3),
    "single tasks, one not used": ([[0, 0, 0], [1, 0, 0], [0, 0, 1]], 2),
    "two grids": ([[alpha] * 3 for alpha in GRID] + [[0, 0, -alpha] for alpha in GRID], 2),
    "as many lines as vectors": ([[1, 0, 0], [1, 1, 0], [0, 1, 1], [2, 2, 0]], 3),
    "a plane": ([[a, b, 0] for a in (-1, 0, 1) for b in (-1, 0.5)], 2),
    "anything": ([[0.7, 0, 0], [-0.4, 1.3, 0], [0.2, 0.1, -0.3], [1, 1, 1]], 3),
}


class Spy:
    """The engine, and in how many directions it was asked to propagate."""

    def __init__(self, space: TangentSpace) -> None:
        self.engine, self.directions = space._propagate, list[int]()
        space._propagate = self

    def __call__(self, images: Tensor, tangents: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        self.directions.append(*{len(tangent) for tangent in tangents.values()})
        return self.engine(images, tangents)

    def tangent(self, images: Tensor, tangents: Mapping[str, Tensor]) -> Tensor:
        raise AssertionError("f(x; θ₀) is needed, too")


@pytest.fixture
def vectors(make_vector: VectorFactory) -> Sequence[TaskVector]:
    """The second holds only attention tensors."""
    return [make_vector(0), make_vector(1, part="attn"), make_vector(2)]


@pytest.mark.parametrize("edits", EDITS)
def test_every_edit_equals_its_own_propagation(
    make_encoder: Callable[[], ImageEncoder],
    vectors: Sequence[TaskVector],
    make_images: Callable[..., LabelledImages],
    edits: str,
) -> None:
    """In as few directions as there are lines, or task vectors in use, the smaller number; once per batch."""
    rows, directions = EDITS[edits]
    coefficients = torch.tensor(rows, dtype=torch.float32)
    images = torch.from_numpy(make_images(5).images)
    batches = [images[:3], images[3:]]
    space = TangentSpace(make_encoder(), vectors, CPU, SETTINGS)
    spy = Spy(space)
    propagated = [(edit, batch, e.clone()) for edit, batch, e in space.embeddings(coefficients, batches)]
    assert sorted((edit, batch) for edit, batch, _ in propagated) == [
        (i, j) for i in range(len(rows)) for j in range(2)
    ]
    assert spy.directions == ([directions] * 2 if directions else [])

    reference = make_encoder().requires_grad_(False)
    for edit, batch, embedded in propagated:
        direction = {name: torch.zeros(1, *p.shape) for name, p in reference.visual.named_parameters()}
        for coefficient, vector in zip(rows[edit], vectors, strict=True):
            for name, tensor in vector.tensors.items():
                direction[name][0] += coefficient * tensor
        primal, moved = GenericTangent(reference.visual)(reference.normalise(batches[batch]), direction)
        torch.testing.assert_close(embedded, primal + moved[0], rtol=1e-4, atol=1e-5)


def test_no_edit_is_the_encoder_itself(
    make_encoder: Callable[[], ImageEncoder],
    make_vector: VectorFactory,
    make_images: Callable[..., LabelledImages],
) -> None:
    images = torch.from_numpy(make_images(4).images)
    space = TangentSpace(make_encoder(), [make_vector(0)], CPU, SETTINGS)
    ((_, _, embedded),) = space.embeddings(torch.zeros(1, 1), [images])
    torch.testing.assert_close(embedded, make_encoder().requires_grad_(False)(images), rtol=1e-5, atol=1e-6)


coefficient = st.integers(-60, 60).map(lambda twentieths: twentieths / 20)


@st.composite
def matrices(draw: st.DrawFn) -> Tensor:
    """Edits by tasks: random rows, multiples of them, zeros, and columns that no edit uses."""
    tasks = draw(st.integers(1, 5))
    lines = draw(st.lists(st.lists(coefficient, min_size=tasks, max_size=tasks), min_size=1, max_size=4))
    multiples = draw(st.lists(st.tuples(st.sampled_from(lines), coefficient), max_size=8))
    rows = torch.tensor([*lines, *([scale * c for c in line] for line, scale in multiples)])
    used = draw(st.lists(st.booleans(), min_size=tasks, max_size=tasks))
    return rows * torch.tensor(used)


@given(matrices())
def test_factors_of_coefficients(coefficients: Tensor) -> None:
    weights, directions = _factorise(coefficients)
    torch.testing.assert_close(weights @ directions, coefficients, rtol=1e-5, atol=1e-6)
    assert bool(directions.ne(0).any(dim=1).all())  # none is propagated for nothing
    # As few as possible, and at most as many as there are task vectors in use.
    assert torch.linalg.matrix_rank(coefficients) <= len(directions) <= coefficients.ne(0).any(dim=0).sum()


@given(st.lists(coefficient, min_size=1, max_size=6), st.lists(coefficient, min_size=2, max_size=30))
def test_a_grid_is_one_direction(signs: list[float], grid: list[float]) -> None:
    """Every α of a pattern of −1, 0 and 1, as addition and negation search."""
    pattern = torch.tensor(signs).sign()
    coefficients = torch.tensor(grid)[:, None] * pattern
    weights, directions = _factorise(coefficients)
    assert len(directions) == (1 if coefficients.any() else 0)
    assert torch.equal(weights @ directions, coefficients)
