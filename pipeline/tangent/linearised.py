"""What a linearised encoder gives, whichever way it computes it."""

from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

# Tangents by parameter name, each with a leading dimension of directions.
Directions = Mapping[str, Float[Tensor, "directions ..."]]


@runtime_checkable
class LinearisedEncoder(Protocol):
    """An encoder f at the frozen weights θ₀, and the product of its Jacobian J with directions τ in weight space.

    Every method raises a ``ValueError`` if there are no tangents, or if they name what is no parameter of the encoder.
    """

    def __call__(
        self, images: Float[Tensor, "n 3 height width"], tangents: Directions
    ) -> tuple[Float[Tensor, "n features"], Float[Tensor, "directions n features"]]:
        """f(x; θ₀) and J(x) τ for every direction, from one pass; gradients flow to ``tangents`` only."""
        ...

    def tangent(
        self, images: Float[Tensor, "n 3 height width"], tangents: Directions
    ) -> Float[Tensor, "directions n features"]:
        """J(x) τ alone, without what only f(x; θ₀) needs."""
        ...


class Displacement(Mapping[str, Float[Tensor, "1 ..."]]):
    """τ = θ − θ₀ as one direction; gradients flow to θ.

    A tensor is made when it is asked for: all of them together are as large as the encoder, and no rule keeps one.
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
    """Refuse what would move nothing, or less than was asked for.

    Raises:
        ValueError: no tangents are given, or they name what is no parameter of the encoder.
    """
    if not tangents:
        raise ValueError("no tangents: there is no direction to propagate")
    unknown = sorted(tangents.keys() - dict(encoder.named_parameters()).keys())
    if unknown:
        raise ValueError(f"the tangents name no parameter of this encoder: {', '.join(unknown)}")
