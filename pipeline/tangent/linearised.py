"""The interface of a linearised encoder, and directions in weight space."""

from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

# Tangents by parameter name, each with a leading dimension of directions.
Directions = Mapping[str, Float[Tensor, "directions ..."]]


@runtime_checkable
class LinearisedEncoder(Protocol):
    """An encoder f at frozen weights θ₀, and the product of its Jacobian J with directions τ in weight space.

    Every method raises a ``ValueError`` if there are no tangents, or if one names no parameter of the encoder.
    """

    def __call__(
        self, images: Float[Tensor, "n 3 height width"], tangents: Directions
    ) -> tuple[Float[Tensor, "n features"], Float[Tensor, "directions n features"]]:
        """Return f(x; θ₀) and J(x) τ for every direction, in one pass; gradients flow only to ``tangents``."""
        ...

    def tangent(
        self, images: Float[Tensor, "n 3 height width"], tangents: Directions
    ) -> Float[Tensor, "directions n features"]:
        """Return only J(x) τ, skipping computations that only f(x; θ₀) needs."""
        ...


class Displacement(Mapping[str, Float[Tensor, "1 ..."]]):
    """τ = θ − θ₀ as a single direction; gradients flow to θ.

    Tensors are computed on access: together they are as large as the encoder, and no rule keeps one.
    """

    def __init__(self, theta: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> None:
        self._theta, self._base = theta, base

    def __getitem__(self, name: str) -> Float[Tensor, "1 ..."]:
        return (self._theta[name] - self._base[name])[None]

    def __iter__(self) -> Iterator[str]:
        return iter(self._theta)

    def __len__(self) -> int:
        return len(self._theta)


def check_directions(encoder: nn.Module, tangents: Directions) -> None:
    """Check that there are tangents, each of a parameter of the encoder.

    Raises:
        ValueError: there are no tangents, or one names no parameter of the encoder.
    """
    if not tangents:
        raise ValueError("no tangents: there is no direction to propagate")
    unknown = sorted(tangents.keys() - dict(encoder.named_parameters()).keys())
    if unknown:
        raise ValueError(f"tangents of unknown parameters: {', '.join(unknown)}")
