"""A small vision transformer in float64, directions to move it in, and its differential without our code."""

from collections.abc import Callable, Iterable, Mapping

import open_clip.transformer as oc
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers in every run."""
    torch.manual_seed(0)


@pytest.fixture
def images() -> Tensor:
    """Three images of the size that the small transformer takes."""
    return torch.randn(3, 3, 16, 16, dtype=torch.double)


def small_transformer(
    activation: Callable[[], nn.Module] = nn.GELU, pool: str = "tok", patch_dropout: float = 0.0
) -> oc.VisionTransformer:
    """Two blocks of width 24, always the same, with biases and norms that are not at their initial 0 and 1."""
    torch.manual_seed(0)
    encoder = oc.VisionTransformer(
        image_size=16, patch_size=4, width=24, layers=2, heads=3, mlp_ratio=2.0, output_dim=8, act_layer=activation,
        pool_type=pool, patch_dropout=patch_dropout,
    )  # fmt: skip
    randomise(encoder)
    return encoder.double().eval().requires_grad_(False)


def randomise(encoder: nn.Module) -> None:
    """Move every parameter, so that none is 0 or 1."""
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))


def random_directions(encoder: nn.Module, names: Iterable[str], count: int) -> dict[str, Tensor]:
    """Tangents of the named parameters, which want gradients."""
    parameters = {name: encoder.get_parameter(name) for name in names}
    return {name: torch.randn(count, *p.shape, dtype=p.dtype).requires_grad_() for name, p in parameters.items()}


def differential(encoder: nn.Module, images: Tensor, tangents: Mapping[str, Tensor]) -> Tensor:
    """J(x) τ by ``torch.func.jvp`` of the encoder itself, one direction after the other."""
    base = {name: encoder.get_parameter(name).detach() for name in tangents}
    moved = []
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            for i in range(len(next(iter(tangents.values())))):
                direction = {name: tangent[i] for name, tangent in tangents.items()}
                moved.append(jvp(lambda p: functional_call(encoder, p, (images,)), (base,), (direction,))[1])
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    return torch.stack(moved)


def finite_difference(encoder: nn.Module, images: Tensor, tangents: Mapping[str, Tensor], step: float) -> Tensor:
    """J(x) τ as a central difference of the encoder itself, one direction after the other."""

    def moved(i: int, by: float) -> Tensor:
        parameters = {name: encoder.get_parameter(name) + by * tangent[i] for name, tangent in tangents.items()}
        return functional_call(encoder, parameters, (images,))

    with torch.no_grad():
        count = len(next(iter(tangents.values())))
        return torch.stack([(moved(i, step) - moved(i, -step)) / (2 * step) for i in range(count)])


def cotangent_gradients(encoder: nn.Module, images: Tensor, names: Iterable[str], cotangent: Tensor) -> list[Tensor]:
    """Jᵀ c by the ordinary backward pass: the gradients of ⟨c, J τ⟩ with respect to τ."""
    parameters = {name: encoder.get_parameter(name).detach().clone().requires_grad_() for name in names}
    output = functional_call(encoder, parameters, (images,))
    return list(torch.autograd.grad(output, list(parameters.values()), cotangent))
