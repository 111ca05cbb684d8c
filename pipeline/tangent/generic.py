"""The same through ``torch.func.jvp``, for every other encoder."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

Directions = Mapping[str, Float[Tensor, "directions ..."]]


class GenericTangent:
    """f(x; θ₀) and J(x) τ by forward-mode differentiation of the encoder's own forward pass."""

    def __init__(self, encoder: nn.Module) -> None:
        self.encoder = encoder

    def __call__(
        self, images: Float[Tensor, "n 3 height width"], tangents: Directions
    ) -> tuple[Float[Tensor, "n features"], Float[Tensor, "directions n features"]]:
        """See :class:`pipeline.tangent.vision_transformer.TangentVisionTransformer`."""
        if not tangents:
            raise ValueError("no tangents: there is no direction to propagate")
        base = {name: self.encoder.get_parameter(name).detach() for name in tangents}

        def encode(parameters: dict[str, Tensor]) -> Tensor:
            return functional_call(self.encoder, parameters, (images,))

        def push(direction: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            primal, tangent = jvp(encode, (base,), (direction,))[:2]
            return primal, tangent

        # Neither fused attention nor torch's fast path for it has a forward-mode rule.
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with sdpa_kernel(SDPBackend.MATH):
                if len(next(iter(tangents.values()))) == 1:
                    primal, tangent = push({name: direction[0] for name, direction in tangents.items()})
                    return primal.detach(), tangent[None]
                primals, tangent = vmap(push)(dict(tangents))
                return primals[0].detach(), tangent
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
