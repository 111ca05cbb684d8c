"""The fallback for other architectures: chosen automatically, logged, and correct."""

import logging

import pytest
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from pipeline.tangent import GenericTangent, TangentVisionTransformer, linearise
from tests.tangent.conftest import (
    cotangent_gradients,
    finite_difference,
    random_directions,
    randomise,
    small_transformer,
)


def resnet() -> nn.Module:
    """A small one of CLIP's ResNets, whose batch norms have seen other images."""
    encoder = ModifiedResNet([1, 1, 1, 1], output_dim=8, heads=4, image_size=32, width=8)
    with torch.no_grad():
        for _ in range(3):
            encoder(torch.randn(16, 3, 32, 32))
    return encoder


def convnext() -> nn.Module:
    """timm's ConvNeXt for tests, as open_clip uses those of CLIP."""
    return TimmModel("test_convnext", embed_dim=8, image_size=32)


OTHERS = {"ModifiedResNet": resnet, "TimmModel": convnext}


@pytest.mark.parametrize("name", OTHERS)
def test_other_architectures_are_linearised(name: str, caplog: pytest.LogCaptureFixture) -> None:
    encoder = OTHERS[name]()
    randomise(encoder)
    encoder = encoder.double().eval().requires_grad_(False)
    with caplog.at_level(logging.INFO, "pipeline.tangent"):
        linearised = linearise(encoder)
    assert isinstance(linearised, GenericTangent)
    (record,) = caplog.records
    assert record.name == "pipeline.tangent"
    assert name in record.getMessage()

    images = torch.randn(2, 3, 32, 32, dtype=torch.double)
    names = [name for name, _ in encoder.named_parameters()]
    tangents = random_directions(encoder, names, 2)
    primal, tangent = linearised(images, tangents)
    torch.testing.assert_close(primal, encoder(images), rtol=1e-12, atol=1e-12)
    # The step is small because ReLU has kinks.
    expected = finite_difference(encoder, images, tangents, 1e-8)
    torch.testing.assert_close(tangent, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    assert torch.equal(linearised.tangent(images, tangents), tangent)

    cotangent = torch.randn_like(tangent)
    tangent.backward(cotangent)
    for direction in range(2):
        gradients = cotangent_gradients(encoder, images, names, cotangent[direction])
        for name, gradient in zip(names, gradients, strict=True):
            grad = tangents[name].grad
            assert grad is not None
            torch.testing.assert_close(grad[direction], gradient, rtol=1e-9, atol=1e-9)


def test_a_vision_transformer_is_not_worth_a_message(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert isinstance(linearise(small_transformer()), TangentVisionTransformer)
    assert not caplog.records


def test_a_linear_model_is_its_own_linearisation() -> None:
    """f = x W' + b with x flat: J τ = x dW' + db, and f(θ₀ + τ) = f(θ₀) + J τ exactly."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).double().requires_grad_(False)
    images = torch.randn(4, 3, 2, 2, dtype=torch.double)
    tangents = random_directions(encoder, ["1.weight", "1.bias"], 2)
    primal, tangent = linearise(encoder)(images, tangents)
    x, dweight, dbias = images.flatten(1), tangents["1.weight"], tangents["1.bias"]
    torch.testing.assert_close(tangent, x @ dweight.mT + dbias[:, None], rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(primal, encoder(images), rtol=1e-13, atol=1e-13)
    cotangent = torch.randn_like(tangent)
    tangent.backward(cotangent)
    torch.testing.assert_close(dweight.grad, cotangent.mT @ x, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(dbias.grad, cotangent.sum(dim=1), rtol=1e-13, atol=1e-13)


def test_patch_dropout_falls_back_and_is_off_in_eval_mode(images: Tensor) -> None:
    dropping = small_transformer(patch_dropout=0.5)
    linearised = linearise(dropping)
    assert isinstance(linearised, GenericTangent)
    tangents = random_directions(dropping, [name for name, _ in dropping.named_parameters()], 1)
    primal, tangent = linearised(images, tangents)
    expected_primal, expected_tangent = linearise(small_transformer())(images, tangents)
    torch.testing.assert_close(primal, expected_primal, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tangent, expected_tangent, rtol=1e-11, atol=1e-11)


def test_settings_of_attention_are_restored(images: Tensor) -> None:
    encoder = small_transformer()
    tangents = random_directions(encoder, ["proj"], 1)
    assert torch.backends.mha.get_fastpath_enabled()
    GenericTangent(encoder)(images, tangents)
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()
