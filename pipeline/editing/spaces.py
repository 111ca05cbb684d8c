"""Edit spaces: where an edit, coefficients over task vectors, takes effect."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.editing.task_vector import TaskVector
from pipeline.errors import UserError
from pipeline.models.encoders import ImageEncoder

Coefficients = Float[Tensor, "edits tasks"]


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
            UserError: a vector holds a tensor that the encoder lacks.
        """
        self.device = device
        self.size = len(vectors)
        self._encoder = encoder.to(device).eval().requires_grad_(False)
        parameters = dict(encoder.visual.named_parameters())
        self._base = {name: parameter.clone() for name, parameter in parameters.items()}
        self._moves: list[tuple[list[Tensor], list[Tensor]]] = []
        for vector in vectors:
            unknown = vector.tensors.keys() - parameters.keys()
            if unknown:
                task = "+".join(vector.provenance.tasks)
                raise UserError(f"task vector of {task}: the encoder has no parameter {sorted(unknown)[0]!r}")
            names = sorted(vector.tensors)
            self._moves.append(
                ([parameters[name] for name in names], [vector.tensors[name].to(device) for name in names])
            )

    @contextmanager
    def edited(self, coefficients: Float[Tensor, " tasks"]) -> Iterator[ImageEncoder]:
        """The encoder moved to θ₀ + Σ aₜ τₜ while the block runs, and back at exactly θ₀ after it.

        Vectors are added in their order, so equal edits give equal bits.
        """
        with torch.no_grad():
            try:
                for (parameters, tensors), coefficient in zip(self._moves, coefficients.tolist(), strict=True):
                    if coefficient != 0:
                        torch._foreach_add_(parameters, tensors, alpha=coefficient)  # pyright: ignore[reportPrivateImportUsage]
                yield self._encoder
            finally:
                for name, parameter in self._encoder.visual.named_parameters():
                    parameter.copy_(self._base[name])

    def embeddings(
        self, coefficients: Coefficients, batches: Sequence[Tensor]
    ) -> Iterator[tuple[int, int, Float[Tensor, "n features"]]]:
        """See :class:`EditSpace`. Parameters move once per edit."""
        with torch.inference_mode():
            for edit, row in enumerate(coefficients):
                with self.edited(row) as encoder:
                    for index, images in enumerate(batches):
                        yield edit, index, encoder(images.to(self.device, non_blocking=True))
