"""Trainable encoders: the parameters that a recipe trains, in weight space or in tangent space."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property

import open_clip.transformer as oc
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.config import Recipe
from pipeline.errors import UserError
from pipeline.models.encoders import ImageBatch, ImageEncoder
from pipeline.paradigms.extensions import load_extension
from pipeline.paradigms.selections import select
from pipeline.tangent import Displacement, LinearisedEncoder, TangentVisionTransformer, linearise

Embeddings = Float[Tensor, "n features"]


class TrainableEncoder(nn.Module, ABC):
    """Parameters θ that start at θ₀, or at θ₀ + a given τ, and the embeddings of the encoder at θ.

    encoder: the image encoder; in tangent space it stays at θ₀.
    trained: the trained parameters θ by name; nothing else requires a gradient.
    base: the same tensors at θ₀.
    """

    encoder: ImageEncoder
    trained: dict[str, nn.Parameter]
    base: dict[str, Tensor]

    @abstractmethod
    def forward(self, images: ImageBatch) -> Embeddings:
        """Return the encoder's output before L2 normalisation."""

    @abstractmethod
    def tangent(self, images: ImageBatch) -> Embeddings:
        """Return J(x) (θ − θ₀), J at θ₀, which τJp regularisation penalises in either space."""

    @abstractmethod
    def checkpoint_activations(self) -> None:
        """Recompute a block's activations in the backward pass instead of keeping them.

        Raises:
            UserError: the encoder has no transformer blocks.
        """

    @abstractmethod
    def compile_forward(self) -> None:
        """Compile the encoder with torch.compile; in tangent space nothing changes."""

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Return (height, width) of the encoder's images, or ``None`` for any."""
        return self.encoder.image_size

    def tau(self) -> Displacement:
        """Return θ − θ₀ as one tangent direction; gradients flow to θ."""
        return Displacement(self.trained, self.base)


def make_trainable(
    encoder: ImageEncoder, recipe: Recipe, start: Mapping[str, Tensor] | None = None
) -> TrainableEncoder:
    """Return the encoder as the recipe trains it.

    Args:
        encoder: at θ₀.
        recipe: the trained parameters and the space.
        start: the tensors of a τ, on any device; θ starts at θ₀ + τ, and the regulariser still sees θ − θ₀.

    Raises:
        UserError: the recipe's selection is unknown or selects nothing, its extension cannot be loaded, or ``start``
            moves a parameter that the recipe does not train.
    """
    if recipe.extension:
        load_extension(recipe.extension)
    names = select(recipe.trainable, dict(encoder.visual.named_parameters()))
    # In both spaces: no dropout, and the batch statistics of θ₀.
    encoder.eval().requires_grad_(False)
    trainable = InTangentSpace(encoder, names) if recipe.trained_in == "tangent" else InWeightSpace(encoder, names)
    _move(trainable.trained, start or {})
    return trainable


@torch.no_grad()
def _move(trained: Mapping[str, nn.Parameter], start: Mapping[str, Tensor]) -> None:
    for name, tensor in start.items():
        if name not in trained or trained[name].shape != tensor.shape:
            raise UserError(
                f"start: its task vector moves {name!r} {list(tensor.shape)}, which this recipe does not train"
            )
        trained[name].add_(tensor.to(trained[name].device))


class InWeightSpace(TrainableEncoder):
    """f(x; θ)."""

    def __init__(self, encoder: ImageEncoder, names: list[str]) -> None:
        super().__init__()
        self.encoder = encoder
        named = dict(encoder.visual.named_parameters())
        self.base = {name: named[name].detach().clone() for name in names}
        self.trained = {name: named[name] for name in names}
        for parameter in self.trained.values():
            parameter.requires_grad_(True)

    @cached_property
    def _propagate(self) -> LinearisedEncoder:
        """Return the linearisation at θ₀; only a regulariser needs it."""
        pretrained = copy.deepcopy(self.encoder.visual).requires_grad_(False)
        for name, tensor in self.base.items():
            pretrained.get_parameter(name).copy_(tensor)
        return linearise(pretrained)

    def checkpoint_activations(self) -> None:
        if not isinstance(self.encoder.visual, oc.VisionTransformer):
            raise _without_checkpoints(self.encoder.visual)
        self.encoder.visual.set_grad_checkpointing(True)

    def compile_forward(self) -> None:
        # In place, to keep the parameters' names; without preprocessing, because image sizes may vary.
        self.encoder.visual.compile()

    def forward(self, images: ImageBatch) -> Embeddings:
        return self.encoder(images)

    def tangent(self, images: ImageBatch) -> Embeddings:
        return self._propagate.tangent(self.encoder.normalise(images), self.tau())[0]


class InTangentSpace(TrainableEncoder):
    """f(x; θ₀) + J(x) (θ − θ₀).

    The parameter is θ and not τ, as in the published code, so that weight decay acts on θ.
    """

    def __init__(self, encoder: ImageEncoder, names: list[str]) -> None:
        super().__init__()
        self.encoder = encoder
        self._propagate = linearise(encoder.visual)
        named = dict(encoder.visual.named_parameters())
        self.base = {name: named[name].detach() for name in names}
        self.trained = {name: nn.Parameter(tensor.clone()) for name, tensor in self.base.items()}
        # DDP finds the parameters here: a module cannot register a parameter with a dot in its name.
        self._registered = nn.ParameterList(self.trained.values())

    def checkpoint_activations(self) -> None:
        if not isinstance(self._propagate, TangentVisionTransformer):
            raise _without_checkpoints(self.encoder.visual)
        self._propagate.checkpoint_activations()

    def compile_forward(self) -> None:
        pass  # with custom autograd functions and new weights in every step there is little to fuse

    def forward(self, images: ImageBatch) -> Embeddings:
        primal, tangent = self._propagate(self.encoder.normalise(images), self.tau())
        return primal + tangent[0]

    def tangent(self, images: ImageBatch) -> Embeddings:
        return self._propagate.tangent(self.encoder.normalise(images), self.tau())[0]


def _without_checkpoints(visual: nn.Module) -> UserError:
    name = type(visual).__name__
    return UserError(f"finetune.checkpointing: {name} is not an open_clip vision transformer; set it to false")
