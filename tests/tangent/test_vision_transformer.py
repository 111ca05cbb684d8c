"""The explicit propagation in float64, against forward-mode differentiation and finite differences."""

from collections.abc import Callable

import open_clip.transformer as oc
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from pipeline.tangent import GenericTangent, TangentVisionTransformer, supports

SELECTIONS: dict[str, Callable[[str], bool]] = {
    "all": lambda name: True,
    "attention weights": lambda name: name.endswith(("attn.in_proj_weight", "attn.out_proj.weight")),
    "layer norms": lambda name: "ln_" in name,
    "biases": lambda name: name.endswith("bias"),
    "patches": lambda name: name == "conv1.weight",
    "class token": lambda name: name == "class_embedding",
    "positions": lambda name: name == "positional_embedding",
    "projection": lambda name: name == "proj",
    "last block": lambda name: "resblocks.1." in name,
}


def vision_transformer(activation: type[nn.Module] = nn.GELU, pool: str = "tok") -> oc.VisionTransformer:
    """A small one whose biases and norms are not at their initial 0 and 1."""
    torch.manual_seed(0)
    encoder = oc.VisionTransformer(
        image_size=16, patch_size=4, width=24, layers=2, heads=3, mlp_ratio=2.0, output_dim=8, act_layer=activation,
        pool_type=pool,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return encoder.double().eval().requires_grad_(False)


def directions(encoder: nn.Module, selection: str, count: int) -> dict[str, Tensor]:
    named = [(name, p) for name, p in encoder.named_parameters() if SELECTIONS[selection](name)]
    return {name: torch.randn(count, *p.shape, dtype=p.dtype, requires_grad=True) for name, p in named}


def images(n: int = 3) -> Tensor:
    return torch.randn(n, 3, 16, 16, dtype=torch.double)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize(("activation", "pool"), [(nn.GELU, "tok"), (oc.QuickGELU, "avg")])
def test_values_and_gradients_equal_those_of_jvp(
    activation: type[nn.Module], pool: str, selection: str, count: int
) -> None:
    encoder, x = vision_transformer(activation, pool), images()
    ours = directions(encoder, selection, count)
    theirs = {name: tangent.detach().clone().requires_grad_() for name, tangent in ours.items()}
    weight = torch.randn(count, 3, 8, dtype=torch.double)
    primal, tangent = TangentVisionTransformer(encoder)(x, ours)
    expected_primal, expected_tangent = GenericTangent(encoder)(x, theirs)
    torch.testing.assert_close(primal, expected_primal, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tangent, expected_tangent, rtol=1e-11, atol=1e-11)
    (tangent.tanh() * weight).sum().backward()
    (expected_tangent.tanh() * weight).sum().backward()
    for name in ours:
        torch.testing.assert_close(ours[name].grad, theirs[name].grad, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("selection", SELECTIONS)
def test_the_tangent_is_the_limit_of_finite_differences(selection: str) -> None:
    encoder, x, step = vision_transformer(), images(), 1e-6
    tangents = {name: tangent.detach() for name, tangent in directions(encoder, selection, 1).items()}

    def moved(by: float) -> Tensor:
        parameters = {name: encoder.get_parameter(name) + by * tangent[0] for name, tangent in tangents.items()}
        return functional_call(encoder, parameters, (x,))

    _, tangent = TangentVisionTransformer(encoder)(x, tangents)
    torch.testing.assert_close(tangent[0], (moved(step) - moved(-step)) / (2 * step), rtol=1e-6, atol=1e-7)


def test_the_linearised_encoder_is_affine_in_the_task_vector() -> None:
    encoder, x = vision_transformer(), images()
    tangents = {name: tangent.detach() for name, tangent in directions(encoder, "all", 2).items()}
    propagate = TangentVisionTransformer(encoder)
    primal, both = propagate(x, tangents)
    mixed = {name: (0.3 * tangent[0] - 1.7 * tangent[1])[None] for name, tangent in tangents.items()}
    _, combined = propagate(x, mixed)
    torch.testing.assert_close(combined[0], 0.3 * both[0] - 1.7 * both[1], rtol=1e-12, atol=1e-12)
    zero = {name: torch.zeros_like(tangent[:1]) for name, tangent in tangents.items()}
    at_base, unmoved = propagate(x, zero)
    assert not unmoved.any()
    assert torch.equal(at_base, primal)


def test_frozen_parameters_cost_no_tangent_work() -> None:
    """With only the last block's parameters moving, nothing before it has a tangent that autograd could record."""
    encoder = vision_transformer()
    tangents = directions(encoder, "last block", 1)
    _, tangent = TangentVisionTransformer(encoder)(images(), tangents)
    recorded = count_operations(tangent)
    _, full = TangentVisionTransformer(encoder)(images(), directions(encoder, "all", 1))
    assert recorded < 0.6 * count_operations(full)


def count_operations(tensor: Tensor) -> int:
    """Nodes of the recorded graph."""
    seen, waiting = set(), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting.extend(parent for parent, _ in node.next_functions)
    return len(seen)


def test_only_known_forms_are_supported() -> None:
    assert supports(vision_transformer())
    assert not supports(nn.Linear(2, 2))
    attentional = oc.VisionTransformer(16, 4, 24, 1, 3, 2.0, attentional_pool=True, output_dim=8)
    assert not supports(attentional)
    with pytest.raises(TypeError, match="no explicit tangent propagation"):
        TangentVisionTransformer(attentional)


def test_no_tangents_are_refused() -> None:
    encoder = vision_transformer()
    with pytest.raises(ValueError, match="no tangents"):
        TangentVisionTransformer(encoder)(images(), {})
    with pytest.raises(ValueError, match="name no parameter"):
        TangentVisionTransformer(encoder)(images(), {"nothing": torch.zeros(1, 2, dtype=torch.double)})


def test_bfloat16_autocast_stays_near_float32() -> None:
    encoder, x = vision_transformer().float(), images().float()
    tangents = {name: 0.01 * t.detach().float() for name, t in directions(encoder, "all", 1).items()}
    _, exact = TangentVisionTransformer(encoder)(x, tangents)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, mixed = TangentVisionTransformer(encoder)(x, tangents)
    assert torch.linalg.norm(mixed.float() - exact) < 0.03 * torch.linalg.norm(exact)
