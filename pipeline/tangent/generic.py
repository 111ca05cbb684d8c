"""Linearise any encoder with ``torch.func.jvp``."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.tangent.linearised import Directions, check_directions


class GenericTangent:
    """A :class:`.LinearisedEncoder` that differentiates the encoder's own forward pass in forward mode."""

    def __init__(self, encoder: nn.Module) -> None:
        self.encoder = encoder

    def __call__(
        self, images: Float[Tensor, "n 3 height width"], tangents: Directions
    ) -> tuple[Float[Tensor, "n features"], Float[Tensor, "directions n features"]]:
        """See :class:`.LinearisedEncoder`."""
        check_directions(self.encoder, tangents)
        base = {name: self.encoder.get_parameter(name).detach() for name in tangents}

        def encode(parameters: dict[str, Tensor]) -> Tensor:
            return functional_call(self.encoder, parameters, (images,))

        def push(direction: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            primal, tangent = jvp(encode, (base,), (direction,))[:2]
            return primal, tangent

        with plain_attention():
            if len(next(iter(tangents.values()))) == 1:
                primal, tangent = push({name: direction[0] for name, direction in tangents.items()})
                return primal.detach(), tangent[None]
            primals, tangent = vmap(push)(dict(tangents))
            return primals[0].detach(), tangent

    def tangent(
        self, images: Float[Tensor, "n 3 height width"], tangents: Directions
    ) -> Float[Tensor, "directions n features"]:
        """See :class:`.LinearisedEncoder`; ``jvp`` always computes f(x; θ₀) as well."""
        return self(images, tangents)[1]


@contextmanager
def plain_attention() -> Iterator[None]:
    """Disable fused attention and torch's fast path, which support neither forward mode nor ``vmap``."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
