"""The weight space against a fresh model with the edited weights, in float64; θ₀ comes back bit by bit."""

import copy
from collections.abc import Callable, Generator

import pytest
import torch
from torch import Tensor

from pipeline.config import EvaluationSettings
from pipeline.editing import TaskVector
from pipeline.editing.spaces import EditSpace, Subset, WeightSpace, edits_at_once
from pipeline.errors import UserError
from pipeline.images import LabelledImages
from pipeline.models.encoders import ImageEncoder
from pipeline.models.registry import ModelDefinition

CPU = torch.device("cpu")
SETTINGS = EvaluationSettings(batch_size=7, directions=2, edits=1)
EDITS = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.3, 0.3, 0.3], [0.0, -0.7, 0.0], [2.0, -1.5, 0.1]])

EncoderFactory = Callable[[], ImageEncoder]
VectorFactory = Callable[..., TaskVector]


@pytest.fixture(scope="module")
def vectors(make_vector: VectorFactory) -> list[TaskVector]:
    """The second moves only the attention's parameters."""
    return [make_vector(0), make_vector(1, part="attn"), make_vector(2, scale=0.02)]


@pytest.fixture(scope="module")
def batches(make_images: Callable[..., LabelledImages]) -> list[Tensor]:
    images = torch.from_numpy(make_images(5).images)
    return [images[:3], images[3:]]


@pytest.fixture
def space(make_encoder: EncoderFactory, vectors: list[TaskVector]) -> WeightSpace:
    return WeightSpace(make_encoder(), vectors, CPU, SETTINGS)


def exact_embeddings(
    encoder: ImageEncoder, definition: ModelDefinition, vectors: list[TaskVector], edit: Tensor, images: Tensor
) -> Tensor:
    """f(x; θ₀ + Σ aₜ τₜ) in float64, through torch.func.functional_call."""
    visual = copy.deepcopy(encoder.visual).double()
    weights = {name: parameter.detach().clone() for name, parameter in visual.named_parameters()}
    for coefficient, vector in zip(edit.tolist(), vectors, strict=True):
        for name, tensor in vector.tensors.items():
            weights[name] = weights[name] + coefficient * tensor.double()
    mean = torch.tensor(definition.mean, dtype=torch.float64).view(1, 3, 1, 1)
    std = torch.tensor(definition.std, dtype=torch.float64).view(1, 3, 1, 1)
    with torch.no_grad():
        return torch.func.functional_call(visual, weights, ((images.double() / 255 - mean) / std,))


def weights_of(space: WeightSpace) -> dict[str, Tensor]:
    with space.edited(torch.zeros(space.size)) as encoder:
        return {name: parameter.clone() for name, parameter in encoder.visual.named_parameters()}


def assert_at(space: WeightSpace, base: dict[str, Tensor]) -> None:
    weights = weights_of(space)
    assert weights.keys() == base.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in base.items())


@pytest.mark.parametrize(("device", "parameters", "expected"), [("cpu", 10, 1), ("cuda", 10, 16), ("cuda", 10**8, 1)])
def test_only_a_small_encoder_on_a_gpu_is_evaluated_several_times_at_once(
    device: str, parameters: int, expected: int
) -> None:
    assert edits_at_once(torch.device(device), parameters) == expected


@pytest.mark.parametrize("at_once", [1, 2, 8])
def test_embeddings_equal_those_of_the_edited_model(
    at_once: int,
    vectors: list[TaskVector],
    batches: list[Tensor],
    make_encoder: EncoderFactory,
    tiny_definition: ModelDefinition,
) -> None:
    seen = []
    space = WeightSpace(make_encoder(), vectors, CPU, SETTINGS.model_copy(update={"edits": at_once}))
    for edit, batch, embeddings in space.embeddings(EDITS, batches):
        expected = exact_embeddings(make_encoder(), tiny_definition, vectors, EDITS[edit], batches[batch])
        error = (embeddings.double() - expected).norm() / expected.norm()
        assert error < 1e-5
        seen.append((edit, batch))
    assert sorted(seen) == [(edit, batch) for edit in range(len(EDITS)) for batch in range(2)]


def test_simultaneous_edits_share_unmoved_tensors(
    vectors: list[TaskVector], batches: list[Tensor], make_encoder: EncoderFactory, base: dict[str, Tensor]
) -> None:
    edits = torch.tensor([[0.5], [-1.0], [0.0]])
    alone, together = (
        WeightSpace(make_encoder(), vectors[1:2], CPU, SETTINGS.model_copy(update={"edits": edits})) for edits in (1, 3)
    )
    expected = {(edit, batch): e for edit, batch, e in alone.embeddings(edits, batches)}
    by_edit = {(edit, batch): e for edit, batch, e in together.embeddings(edits, batches)}
    assert by_edit.keys() == expected.keys()
    for key, embeddings in expected.items():
        torch.testing.assert_close(by_edit[key], embeddings, rtol=1e-4, atol=1e-5)
    assert_at(together, base)
    assert torch.backends.mha.get_fastpath_enabled()


def test_edits_differ(space: WeightSpace, batches: list[Tensor]) -> None:
    by_edit = {edit: embeddings for edit, _, embeddings in space.embeddings(EDITS, batches[:1])}
    distances = [(by_edit[a] - by_edit[b]).norm().item() for a in by_edit for b in by_edit if a < b]
    assert min(distances) > 1e-2


def test_base_is_restored_bit_by_bit(space: WeightSpace, batches: list[Tensor], base: dict[str, Tensor]) -> None:
    list(space.embeddings(EDITS, batches))
    assert_at(space, base)
    list(space.embeddings(torch.tensor([[torch.nan, 1e30, 1.0]]), batches))
    assert_at(space, base)


def test_base_is_restored_after_an_exception(space: WeightSpace, base: dict[str, Tensor]) -> None:
    moved = False

    def fail() -> None:
        nonlocal moved
        with space.edited(EDITS[4]) as encoder:
            moved = not torch.equal(encoder.visual.get_parameter("proj"), base["proj"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert moved
    assert_at(space, base)


def test_base_is_restored_when_embedding_fails(
    space: WeightSpace, batches: list[Tensor], base: dict[str, Tensor]
) -> None:
    with pytest.raises(Exception, match=r"."):
        list(space.embeddings(EDITS[1:2], [torch.zeros(1, 4, 32, 32, dtype=torch.uint8)]))
    assert_at(space, base)


def test_base_is_restored_when_iteration_stops_early(
    space: WeightSpace, batches: list[Tensor], base: dict[str, Tensor]
) -> None:
    iteration = space.embeddings(EDITS[1:], batches)
    next(iteration)
    assert isinstance(iteration, Generator)
    iteration.close()
    assert_at(space, base)
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


def test_too_few_coefficients_move_nothing(space: WeightSpace, base: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="shorter"), space.edited(torch.ones(2)):
        pass
    assert_at(space, base)


def test_equal_edits_give_equal_bits(space: WeightSpace, batches: list[Tensor]) -> None:
    """Whatever was edited before."""
    alone = {batch: e for _, batch, e in space.embeddings(EDITS[4:], batches)}
    mixed = EDITS[[3, 4, 1, 2, 4]]
    for edit, batch, embeddings in space.embeddings(mixed, batches):
        if edit in (1, 4):
            assert torch.equal(embeddings, alone[batch])


def test_space_is_an_edit_space(space: WeightSpace) -> None:
    assert isinstance(space, EditSpace)
    assert space.size == 3
    assert space.device == CPU


def test_encoder_needs_no_gradients(space: WeightSpace) -> None:
    with space.edited(torch.ones(3)) as encoder:
        assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_vector_of_another_architecture(make_encoder: EncoderFactory, vectors: list[TaskVector]) -> None:
    foreign = TaskVector({"conv9.weight": torch.ones(2)}, vectors[0].provenance)
    with pytest.raises(UserError, match=r"^task vector tiny/standard/digits: θ₀ has no tensor 'conv9.weight'"):
        WeightSpace(make_encoder(), [vectors[0], foreign], CPU, SETTINGS)


def test_vector_of_another_shape(make_encoder: EncoderFactory, vectors: list[TaskVector]) -> None:
    """A shape that would broadcast, so that torch itself would not object."""
    foreign = TaskVector({"proj": torch.ones(1, 1)}, vectors[0].provenance)
    with pytest.raises(UserError, match=r"θ₀ has no tensor 'proj' of shape \[1, 1\]$"):
        WeightSpace(make_encoder(), [foreign], CPU, SETTINGS)


def test_a_subset_leaves_the_other_vectors_out(
    space: WeightSpace, make_encoder: EncoderFactory, vectors: list[TaskVector], batches: list[Tensor]
) -> None:
    """In an order of its own; the same as a space that never had the rest."""
    of_some = WeightSpace(make_encoder(), [vectors[2], vectors[0]], CPU, SETTINGS)
    edits = torch.tensor([[0.0, 0.0], [0.5, -1.0], [1.0, 0.0]])
    subset = Subset(space, [2, 0])
    assert subset.size == 2
    for (edit, batch, expected), (*same, embedded) in zip(
        of_some.embeddings(edits, batches), subset.embeddings(edits, batches), strict=True
    ):
        assert same == [edit, batch]
        torch.testing.assert_close(embedded, expected)
