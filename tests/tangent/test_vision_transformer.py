"""The explicit propagation in float64, against forward and reverse mode of the encoder and finite differences."""

from collections.abc import Callable
from functools import partial

import open_clip.transformer as oc
import pytest
import torch
from torch import Tensor, nn

from pipeline.paradigms import select
from pipeline.tangent import TangentVisionTransformer, linearise, supports
from tests.tangent.conftest import (
    cotangent_gradients,
    differential,
    finite_difference,
    random_directions,
    small_transformer,
)

SELECTIONS = ["all", "attention", "attention_bias", "linear", "linear_bias"]

# Layers that the selections of the paradigms do not train alone.
LAYERS: dict[str, Callable[[str], bool]] = {
    "layer norms": lambda name: "ln_" in name,
    "biases": lambda name: name.endswith("bias"),
    "patches": lambda name: name == "conv1.weight",
    "class token": lambda name: name == "class_embedding",
    "positions": lambda name: name == "positional_embedding",
    "projection": lambda name: name == "proj",
    "last block": lambda name: "resblocks.1." in name,
}

FORMS = {
    "GELU": partial(small_transformer),
    "tanh GELU": partial(small_transformer, partial(nn.GELU, approximate="tanh")),
    "QuickGELU, mean over patches": partial(small_transformer, oc.QuickGELU, pool="avg"),
}

moving = pytest.mark.parametrize("moving", [*SELECTIONS, *LAYERS])


def names(encoder: nn.Module, moving: str) -> list[str]:
    """The parameters of a selection, or of some layers."""
    all_names = [name for name, _ in encoder.named_parameters()]
    return [name for name in all_names if LAYERS[moving](name)] if moving in LAYERS else select(moving, all_names)


@pytest.mark.parametrize("count", [1, 3])
@moving
@pytest.mark.parametrize("form", FORMS)
def test_the_tangent_is_that_of_forward_mode(images: Tensor, form: str, moving: str, count: int) -> None:
    encoder = FORMS[form]()
    tangents = random_directions(encoder, names(encoder, moving), count)
    primal, tangent = TangentVisionTransformer(encoder)(images, tangents)
    torch.testing.assert_close(primal, encoder(images), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tangent, differential(encoder, images, tangents), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("count", [1, 3])
@moving
@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_those_of_reverse_mode(images: Tensor, form: str, moving: str, count: int) -> None:
    encoder = FORMS[form]()
    tangents = random_directions(encoder, names(encoder, moving), count)
    _, tangent = TangentVisionTransformer(encoder)(images, tangents)
    tangent.sin().sum().backward()
    for direction, cotangent in enumerate(tangent.detach().cos()):
        expected = cotangent_gradients(encoder, images, tangents, cotangent)
        for name, gradient in zip(tangents, expected, strict=True):
            grad = tangents[name].grad
            assert grad is not None
            torch.testing.assert_close(grad[direction], gradient, rtol=1e-10, atol=1e-10)


@moving
def test_the_tangent_is_the_limit_of_finite_differences(images: Tensor, moving: str) -> None:
    encoder = small_transformer()
    tangents = random_directions(encoder, names(encoder, moving), 1)
    _, tangent = TangentVisionTransformer(encoder)(images, tangents)
    expected = finite_difference(encoder, images, tangents, 1e-6)
    torch.testing.assert_close(tangent, expected, rtol=1e-6, atol=1e-7)


@moving
def test_the_tangent_alone_is_the_same(images: Tensor, moving: str) -> None:
    encoder = small_transformer()
    tangents = random_directions(encoder, names(encoder, moving), 2)
    propagate = TangentVisionTransformer(encoder)
    assert torch.equal(propagate.tangent(images, tangents), propagate(images, tangents)[1])


def test_an_encoder_without_projection(images: Tensor) -> None:
    encoder = small_transformer()
    encoder.proj = None
    tangents = random_directions(encoder, names(encoder, "all"), 1)
    primal, tangent = TangentVisionTransformer(encoder)(images, tangents)
    torch.testing.assert_close(primal, encoder(images), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tangent, differential(encoder, images, tangents), rtol=1e-11, atol=1e-11)


def test_only_known_forms_are_supported() -> None:
    assert supports(small_transformer())
    make = partial(oc.VisionTransformer, 16, 4, 24, 1, 3, 2.0, output_dim=8)
    others = {
        "a linear layer": nn.Linear(2, 2),
        "attentional pooling": make(attentional_pool=True),
        "scaled layers": make(ls_init_value=0.1),
        "custom blocks": make(block_type="custom"),
        "no first norm": make(no_ln_pre=True),
        "last norm after pooling": make(final_ln_after_pool=True),
        "all tokens": make(pool_type="none"),
        "patch dropout": make(patch_dropout=0.5),
        "another activation": make(act_layer=nn.ReLU),
    }
    assert not [name for name, encoder in others.items() if supports(encoder)]
    with pytest.raises(TypeError, match="no explicit tangent propagation"):
        TangentVisionTransformer(others["attentional pooling"])
    assert isinstance(linearise(small_transformer()), TangentVisionTransformer)
