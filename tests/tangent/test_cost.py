"""Cost of the explicit propagation, counted instead of timed: operations of matrix products, and bytes kept."""

from collections.abc import Callable, Iterable

import open_clip.transformer as oc
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.paradigms import select
from pipeline.tangent import Displacement, GenericTangent, TangentVisionTransformer
from tests.tangent.conftest import random_directions, small_transformer

N, WIDTH, HIDDEN, FEATURES = 3, 24, 48, 8


def names(encoder: nn.Module, trainable: str = "all") -> list[str]:
    return select(trainable, [name for name, _ in encoder.named_parameters()])


def operations(call: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def ordinary_step(encoder: nn.Module, images: Tensor) -> None:
    encoder.requires_grad_(True)
    encoder(images).square().sum().backward()
    encoder.requires_grad_(False)


def tangent_step(encoder: nn.Module, images: Tensor, trainable: str = "all") -> None:
    tangents = random_directions(encoder, names(encoder, trainable), 1)
    primal, tangent = TangentVisionTransformer(encoder)(images, tangents)
    (primal + tangent[0]).square().sum().backward()


@pytest.mark.parametrize("pool", ["tok", "avg"])
def test_a_step_costs_at_most_five_thirds_of_an_ordinary_one(images: Tensor, pool: str) -> None:
    """Three products forwards and two backwards, against one and two; less where the last block is cut short."""
    encoder = small_transformer(pool=pool)
    ordinary, ours = (operations(lambda step=step: step(encoder, images)) for step in (ordinary_step, tangent_step))
    assert ours <= 5 / 3 * ordinary
    if pool == "tok":
        assert ours < 1.45 * ordinary


def test_frozen_parameters_cost_no_tangent_work(images: Tensor) -> None:
    encoder = small_transformer()
    costs = {
        trainable: operations(lambda trainable=trainable: tangent_step(encoder, images, trainable))
        for trainable in ("all", "linear", "attention")
    }
    assert costs["attention"] < costs["linear"] < costs["all"]
    propagate = TangentVisionTransformer(encoder)

    def forwards(*moving: str) -> int:
        tangents = random_directions(encoder, moving, 1)
        return operations(lambda: propagate.tangent(images, tangents))

    projection = forwards("proj")
    # The class token's x dWᵀ and nothing else: what follows is J(x) through one projection, as x dP was.
    assert forwards("transformer.resblocks.1.mlp.c_proj.weight") - projection == 2 * N * HIDDEN * WIDTH
    assert forwards("ln_post.weight") == projection
    assert forwards("transformer.resblocks.1.ln_2.bias") < forwards("transformer.resblocks.0.ln_1.bias")


def test_the_tangent_alone_spares_the_projection_of_the_primal(images: Tensor) -> None:
    encoder = small_transformer()
    propagate, tangents = TangentVisionTransformer(encoder), random_directions(encoder, names(encoder), 1)
    both, alone = (operations(lambda f=f: f(images, tangents)) for f in (propagate.__call__, propagate.tangent))
    assert both - alone == 2 * N * WIDTH * FEATURES


@pytest.mark.parametrize("engine", [TangentVisionTransformer, GenericTangent])
def test_directions_share_one_primal_pass(
    images: Tensor, engine: type[TangentVisionTransformer | GenericTangent]
) -> None:
    encoder = small_transformer()
    linearised = engine(encoder)
    two, three, five = (
        operations(lambda count=count: linearised(images, random_directions(encoder, names(encoder), count)))
        for count in (2, 3, 5)
    )
    each = three - two
    assert five - three == 2 * each
    primal = two - 2 * each
    assert 0 < primal < each


def bytes_kept(call: Callable[[], Tensor], weights: Iterable[Tensor]) -> int:
    """Memory that the recorded graph holds, without the weights."""
    known = {weight.untyped_storage().data_ptr() for weight in weights}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        call()
    return sum(size for pointer, size in kept.items() if pointer not in known)


def test_no_more_is_kept_for_the_backward_pass_than_by_an_ordinary_step() -> None:
    encoder = oc.VisionTransformer(32, 8, width=64, layers=3, heads=2, mlp_ratio=4.0, output_dim=16)
    encoder.requires_grad_(False)
    images, base = torch.randn(8, 3, 32, 32), dict(encoder.named_parameters())
    theta = {name: parameter.clone().requires_grad_() for name, parameter in base.items()}
    propagate = TangentVisionTransformer(encoder)
    ours = bytes_kept(lambda: propagate(images, Displacement(theta, base))[1], base.values())
    ordinary = bytes_kept(lambda: encoder.requires_grad_(True)(images), base.values())
    assert ours <= ordinary
