"""Properties of every linearised encoder, for all ways of computing it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pipeline.paradigms import select
from pipeline.tangent import Displacement, GenericTangent, LinearisedEncoder, TangentVisionTransformer
from tests.tangent.conftest import random_directions, small_transformer

Engine = Callable[[nn.Module], LinearisedEncoder]

engines = pytest.mark.parametrize("engine", [TangentVisionTransformer, GenericTangent])


def everywhere(encoder: nn.Module, count: int) -> dict[str, Tensor]:
    return random_directions(encoder, [name for name, _ in encoder.named_parameters()], count)


@engines
def test_it_is_affine_in_the_task_vector(engine: Engine, images: Tensor) -> None:
    encoder = small_transformer()
    linearised, tangents = engine(encoder), everywhere(encoder, 2)
    primal, both = linearised(images, tangents)
    mixed = {name: 0.3 * tangent[:1] - 1.7 * tangent[1:] for name, tangent in tangents.items()}
    again, combined = linearised(images, mixed)
    assert torch.equal(again, primal)
    torch.testing.assert_close(combined[0], 0.3 * both[0] - 1.7 * both[1], rtol=1e-12, atol=1e-12)


@engines
def test_no_displacement_gives_exactly_the_pretrained_output(engine: Engine, images: Tensor) -> None:
    encoder = small_transformer()
    linearised = engine(encoder)
    primal, _ = linearised(images, everywhere(encoder, 1))
    base = dict(encoder.named_parameters())
    again, unmoved = linearised(images, Displacement({name: p.clone() for name, p in base.items()}, base))
    assert torch.equal(again + unmoved[0], primal)
    torch.testing.assert_close(primal, encoder(images), rtol=1e-12, atol=1e-12)


@engines
def test_several_directions_equal_one_at_a_time(engine: Engine, images: Tensor) -> None:
    encoder = small_transformer()
    linearised, tangents = engine(encoder), everywhere(encoder, 3)
    primal, together = linearised(images, tangents)
    together.sin().sum().backward()
    for direction in range(3):
        alone = {name: t.detach()[direction : direction + 1].requires_grad_() for name, t in tangents.items()}
        own_primal, tangent = linearised(images, alone)
        tangent.sin().sum().backward()
        torch.testing.assert_close(own_primal, primal, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(tangent[0], together[direction], rtol=1e-12, atol=1e-12)
        for name, one in alone.items():
            every = tangents[name].grad
            assert every is not None
            torch.testing.assert_close(every[direction : direction + 1], one.grad, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("sizes", [[1, 2], [1, 1, 1]])
@pytest.mark.parametrize("part", ["", "bias"])
@engines
def test_micro_batches_add_up_to_the_batch(engine: Engine, images: Tensor, part: str, sizes: list[int]) -> None:
    """Gradients of one image could be views of one another, which a second micro-batch would then add to twice."""
    encoder = small_transformer()
    names = [name for name, _ in encoder.named_parameters() if part in name]
    linearised, whole = engine(encoder), random_directions(encoder, names, 1)
    in_parts = {name: tangent.detach().clone().requires_grad_() for name, tangent in whole.items()}
    linearised(images, whole)[1].sin().sum().backward()
    for batch in images.split(sizes):
        linearised(batch, in_parts)[1].sin().sum().backward()
    for name in whole:
        torch.testing.assert_close(in_parts[name].grad, whole[name].grad, rtol=1e-11, atol=1e-12)


@engines
def test_training_mode_changes_nothing(engine: Engine, images: Tensor) -> None:
    encoder = small_transformer()
    tangents = everywhere(encoder, 2)
    evaluated, trained = engine(encoder.eval())(images, tangents), engine(encoder.train())(images, tangents)
    assert torch.equal(trained[0], evaluated[0])
    assert torch.equal(trained[1], evaluated[1])


@engines
def test_gradients_flow_to_the_tangents_only(engine: Engine, images: Tensor) -> None:
    encoder = small_transformer().requires_grad_(True)
    primal, tangent = engine(encoder)(images, everywhere(encoder, 1))
    tangent.sum().backward()
    assert not primal.requires_grad
    assert all(parameter.grad is None for parameter in encoder.parameters())


@engines
def test_an_invalid_direction_is_refused(engine: Engine, images: Tensor) -> None:
    encoder = small_transformer()
    linearised, elsewhere = engine(encoder), {"nothing": torch.zeros(1, 2, dtype=torch.double)}
    for method in (linearised, linearised.tangent):
        with pytest.raises(ValueError, match="no tangents"):
            method(images, {})
        with pytest.raises(ValueError, match="tangents of unknown parameters: nothing"):
            method(images, everywhere(encoder, 1) | elsewhere)


def test_where_only_the_projection_moves_the_closed_form_is_known(images: Tensor) -> None:
    """f = h P with h the pooled activations: J τ = h τ, and the gradient of ⟨c, J τ⟩ is hᵀ c."""
    encoder = small_transformer()
    tangents = random_directions(encoder, ["proj"], 2)
    _, tangent = TangentVisionTransformer(encoder)(images, tangents)
    cotangent = torch.randn_like(tangent)
    tangent.backward(cotangent)
    encoder.proj = None
    pooled = encoder(images)
    torch.testing.assert_close(tangent, pooled @ tangents["proj"].detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tangents["proj"].grad, pooled.T @ cotangent, rtol=1e-12, atol=1e-12)


def test_a_displacement_is_made_when_it_is_asked_for() -> None:
    theta = {"a": torch.tensor([3.0, 5.0], requires_grad=True), "b": torch.ones(2, 2)}
    tau = Displacement(theta, {"a": torch.tensor([1.0, 1.0]), "b": torch.ones(2, 2)})
    assert list(tau) == ["a", "b"]
    assert len(tau) == 2
    assert torch.equal(tau["a"], torch.tensor([[2.0, 4.0]]))
    assert not tau["b"].any()
    tau["a"].sum().backward()
    assert torch.equal(theta["a"].grad, torch.ones(2))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("trainable", ["all", "attention", "attention_bias", "linear_bias"])
def test_bfloat16_autocast_stays_near_float32(images: Tensor, trainable: str) -> None:
    encoder = small_transformer().float()
    names = select(trainable, [name for name, _ in encoder.named_parameters()])
    exact = random_directions(encoder, names, 2)
    rounded = {name: tangent.detach().clone().requires_grad_() for name, tangent in exact.items()}
    propagate = TangentVisionTransformer(encoder)
    expected = propagate(images.float(), exact)[1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = propagate(images.float(), rounded)[1]
    assert_near(actual, expected)
    cotangent = torch.randn_like(expected)
    expected.backward(cotangent)
    actual.backward(cotangent.to(actual.dtype))
    for name in names:
        assert_near(rounded[name].grad, exact[name].grad)


def assert_near(actual: Tensor | None, expected: Tensor | None) -> None:
    """Within a few roundings to 8 significant bits, relative to the size of the whole."""
    assert actual is not None
    assert expected is not None
    assert torch.linalg.norm(actual.float() - expected) < 0.03 * torch.linalg.norm(expected)
