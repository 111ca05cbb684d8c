"""What moves when a paradigm trains, and in which space."""

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.config import FinetuneSettings, Paradigm
from pipeline.models.encoders import ImageEncoder
from pipeline.models.heads import Head
from pipeline.paradigms import make_trainable
from pipeline.tasks import LabelledImages
from pipeline.training import finetune

EncoderFactory = Callable[[], ImageEncoder]
ImageFactory = Callable[..., LabelledImages]


def paradigm(trainable: str, space: Literal["weight", "tangent"]) -> Paradigm:
    return Paradigm(trainable=trainable, trained_in=space, evaluated_in=space)


@pytest.mark.parametrize("space", ["weight", "tangent"])
@pytest.mark.parametrize("trainable", ["all", "attention"])
def test_only_the_selected_parameters_are_trained(
    make_encoder: EncoderFactory,
    make_head: Callable[..., Head],
    make_images: ImageFactory,
    finetune_settings: FinetuneSettings,
    base: dict[str, Tensor],
    trainable: str,
    space: Literal["weight", "tangent"],
) -> None:
    encoder = make_encoder()
    trained = finetune(
        make_trainable(encoder, paradigm(trainable, space)),
        make_head(2),
        make_images(16),
        finetune_settings,
        1,
        0,
        torch.device("cpu"),
        lambda record: None,
    )
    expected = base if trainable == "all" else {name for name in base if "attn" in name and name.endswith("weight")}
    assert set(trained) == set(expected)
    assert all(not torch.equal(trained[name], base[name]) for name in trained)
    for name, parameter in encoder.visual.named_parameters():
        moved = space == "weight" and name in trained
        assert torch.equal(parameter, trained[name] if moved else base[name])


def test_tangent_space_embeds_with_the_linearised_encoder(
    make_encoder: EncoderFactory, make_images: ImageFactory, base: dict[str, Tensor]
) -> None:
    encoder = make_encoder()
    model = make_trainable(encoder, paradigm("all", "tangent"))
    images = torch.from_numpy(make_images(3).images)
    move = {name: 0.1 * torch.randn_like(tensor) for name, tensor in base.items()}
    with torch.no_grad():
        for name, parameter in model.parameters.items():
            parameter += move[name]
    reference = make_encoder().requires_grad_(False)
    x = reference.normalise(images)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            primal, tangent = jvp(lambda p: functional_call(reference.visual, p, (x,)), (base,), (move,))[:2]
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    torch.testing.assert_close(model(images), primal + tangent, rtol=1e-4, atol=1e-5)
