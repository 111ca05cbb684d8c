"""An encoder as a paradigm trains it: which parameters move, and in which space."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from pipeline.config import Paradigm
from pipeline.models.encoders import ImageEncoder
from pipeline.paradigms.selections import select
from pipeline.tangent import linearise


@runtime_checkable
class TrainableEncoder(Protocol):
    """What the training loop needs: parameters θ that start at θ₀, and the embeddings they give."""

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The trained parameters θ by name."""
        ...

    def __call__(self, images: UInt8[Tensor, "n 3 height width"]) -> Float[Tensor, "n features"]:
        """The encoder's output before L2 normalisation."""
        ...


def make_trainable(encoder: ImageEncoder, paradigm: Paradigm) -> TrainableEncoder:
    """The encoder, at θ₀, as the paradigm trains it.

    Raises:
        UserError: the paradigm's selection is unknown or selects nothing.
    """
    names = select(paradigm.trainable, dict(encoder.visual.named_parameters()))
    # θ₀'s statistics and no dropout, in either space.
    encoder.eval().requires_grad_(False)
    return InTangentSpace(encoder, names) if paradigm.trained_in == "tangent" else InWeightSpace(encoder, names)


class InWeightSpace:
    """f(x; θ)."""

    def __init__(self, encoder: ImageEncoder, names: list[str]) -> None:
        self.encoder = encoder
        named = dict(encoder.visual.named_parameters())
        self.parameters = {name: named[name].requires_grad_(True) for name in names}

    def __call__(self, images: UInt8[Tensor, "n 3 height width"]) -> Float[Tensor, "n features"]:
        return self.encoder(images)


class InTangentSpace:
    """f(x; θ₀) + J(x) (θ − θ₀).

    θ and not τ is the parameter, as in the published code, so that weight decay pulls at the same thing.
    """

    def __init__(self, encoder: ImageEncoder, names: list[str]) -> None:
        self.encoder = encoder
        self.propagate = linearise(encoder.visual)
        named = dict(encoder.visual.named_parameters())
        self.base = {name: named[name].detach() for name in names}
        self.parameters = {name: nn.Parameter(tensor.clone()) for name, tensor in self.base.items()}

    def __call__(self, images: UInt8[Tensor, "n 3 height width"]) -> Float[Tensor, "n features"]:
        tangents = {name: (theta - self.base[name])[None] for name, theta in self.parameters.items()}
        primal, tangent = self.propagate(self.encoder.normalise(images), tangents)
        return primal + tangent[0]
