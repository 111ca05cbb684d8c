"""Edit spaces: where an edit, coefficients over task vectors, takes effect."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.editing.task_vector import TaskVector
from pipeline.models.encoders import ImageEncoder
from pipeline.tangent import linearise

Coefficients = Float[Tensor, "edits tasks"]


@runtime_checkable
class EditSpace(Protocol):
    """Turns images into the embeddings of edited models.

    The T task vectors are the space's own; an edit is a row of T coefficients over them.
    """

    @property
    def device(self) -> torch.device:
        """Where the encoder runs and the embeddings are."""
        ...

    @property
    def size(self) -> int:
        """T, the number of task vectors."""
        ...

    def embeddings(
        self, coefficients: Coefficients, batches: Sequence[Tensor]
    ) -> Iterator[tuple[int, int, Float[Tensor, "n features"]]]:
        """Yield ``(edit, batch, embeddings)`` for every edit and every batch of uint8 images, once each."""
        ...


class WeightSpace:
    """Edits of the weights: f(x; θ₀ + Σ aₜ τₜ).

    Keeps θ₀ and the task vectors on the device and moves one encoder's parameters in place.
    """

    def __init__(self, encoder: ImageEncoder, vectors: Sequence[TaskVector], device: torch.device) -> None:
        """
        Raises:
            UserError: a vector holds a tensor that the encoder lacks, or has in another shape.
        """
        self.device = device
        self.size = len(vectors)
        self._encoder = encoder.to(device).eval().requires_grad_(False)
        parameters = dict(encoder.visual.named_parameters())
        self._base = {name: parameter.clone() for name, parameter in parameters.items()}
        self._moves: list[tuple[list[Tensor], list[Tensor]]] = []
        for vector in vectors:
            vector.check_fits(parameters)
            names = sorted(vector.tensors)
            self._moves.append(
                ([parameters[name] for name in names], [vector.tensors[name].to(device) for name in names])
            )

    @contextmanager
    def edited(self, coefficients: Float[Tensor, " tasks"]) -> Iterator[ImageEncoder]:
        """The encoder moved to θ₀ + Σ aₜ τₜ while the block runs, and back at exactly θ₀ after it.

        Vectors are added in their order, so equal edits give equal bits.
        """
        try:
            with torch.no_grad():
                for (parameters, tensors), coefficient in zip(self._moves, coefficients.tolist(), strict=True):
                    if coefficient != 0:
                        torch._foreach_add_(parameters, tensors, alpha=coefficient)  # pyright: ignore[reportPrivateImportUsage]
            yield self._encoder
        finally:
            with torch.no_grad():
                for name, parameter in self._encoder.visual.named_parameters():
                    parameter.copy_(self._base[name])

    def embeddings(
        self, coefficients: Coefficients, batches: Sequence[Tensor]
    ) -> Iterator[tuple[int, int, Float[Tensor, "n features"]]]:
        """See :class:`EditSpace`. Parameters move once per edit."""
        for edit, row in enumerate(coefficients):
            with self.edited(row) as encoder:
                for index, images in enumerate(batches):
                    with torch.inference_mode():
                        embedded = encoder(images.to(self.device, non_blocking=True))
                    yield edit, index, embedded


class TangentSpace:
    """Edits of the linearised encoder: f(x; θ₀) + Σ aₜ J(x) τₜ, affine in the coefficients.

    An image is propagated once for all edits: f₀ and the J τₜ that any edit uses, which every edit then combines.
    """

    def __init__(self, encoder: ImageEncoder, vectors: Sequence[TaskVector], device: torch.device) -> None:
        """
        Raises:
            UserError: a vector holds a tensor that the encoder lacks, or has in another shape.
        """
        self.device = device
        self.size = len(vectors)
        self._encoder = encoder.to(device).eval().requires_grad_(False)
        self._propagate = linearise(encoder.visual)
        parameters = dict(encoder.visual.named_parameters())
        for vector in vectors:
            vector.check_fits(parameters)
        names = sorted({name for vector in vectors for name in vector.tensors})
        self._tangents = {
            name: torch.stack([vector.tensors.get(name, torch.zeros_like(base)).to(device) for vector in vectors])
            for name, base in parameters.items()
            if name in names
        }

    def embeddings(
        self, coefficients: Coefficients, batches: Sequence[Tensor]
    ) -> Iterator[tuple[int, int, Float[Tensor, "n features"]]]:
        """See :class:`EditSpace`. One propagation per batch, of the vectors that any of the edits moves."""
        coefficients = coefficients.to(self.device)
        used = coefficients.ne(0).any(dim=0)
        tangents = {name: tensor[used] for name, tensor in self._tangents.items()}
        for index, images in enumerate(batches):
            with torch.inference_mode():
                x = self._encoder.normalise(images.to(self.device, non_blocking=True))
                if used.any():
                    primal, moved = self._propagate(x, tangents)
                    edits = primal + torch.einsum("kt,tnf->knf", coefficients[:, used], moved)
                else:
                    edits = self._encoder.visual(x).expand(len(coefficients), -1, -1)
            for edit, embedded in enumerate(edits):
                yield edit, index, embedded
