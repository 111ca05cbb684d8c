"""Edit spaces: ways in which an edit (coefficients over task vectors) takes effect."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.func import functional_call, vmap

from pipeline.config import EvaluationSettings
from pipeline.editing.task_vector import TaskVector
from pipeline.models.encoders import ImageEncoder
from pipeline.tangent import linearise, plain_attention

Coefficients = Float[Tensor, "edits tasks"]
# For each image f₀(x), then J(x) τₜ for each task vector.
TangentFeatures = Float[Tensor, "n parts features"]


@runtime_checkable
class EditSpace(Protocol):
    """Maps inputs to the embeddings of edited models.

    An edit is a row of T coefficients over the space's task vectors. Inputs are images, or the tangent features of
    images, depending on the space.
    """

    @property
    def device(self) -> torch.device:
        """The device on which the encoder runs and which holds the embeddings."""
        ...

    @property
    def batch_size(self) -> int:
        """The number of inputs per batch that fits the device."""
        ...

    @property
    def size(self) -> int:
        """T, the number of task vectors."""
        ...

    def embeddings(
        self, coefficients: Coefficients, batches: Sequence[Tensor]
    ) -> Iterator[tuple[int, int, Float[Tensor, "n features"]]]:
        """Yield ``(edit, batch, embeddings)`` once for each pair of an edit and a batch of inputs."""
        ...


class _Space(ABC):
    """A frozen encoder at θ₀ on the device, and task vectors that fit it."""

    def __init__(
        self,
        encoder: ImageEncoder,
        vectors: Sequence[TaskVector],
        device: torch.device,
        settings: EvaluationSettings,
    ) -> None:
        """
        Args:
            encoder: the encoder at θ₀; it is moved to the device and frozen.
            vectors: the task vectors, in the order of the coefficients.
            device: where the encoder runs.
            settings: batch sizes, which determine the memory that evaluation takes.

        Raises:
            UserError: a vector has a tensor that the encoder lacks, or has in another shape.
        """
        self.device, self.settings, self.batch_size = device, settings, settings.batch_size
        self.size = len(vectors)
        self._encoder = encoder.to(device).eval().requires_grad_(False)
        self._parameters = dict(encoder.visual.named_parameters())
        for vector in vectors:
            vector.check_fits(self._parameters)
        self._keep(vectors)

    @abstractmethod
    def _keep(self, vectors: Sequence[TaskVector]) -> None:
        """Keep the task vectors on the device, in the form in which this space adds them."""


# The number of edits at once that is fastest (benchmarks/RECORDS.md): on an H100, 16 edits of mini-clip (0.8 M
# parameters) at once take a seventh of the time, while one ViT-B/32 (88 M) keeps it busy. One edit keeps a CPU busy.
_SMALL_ENCODER = 10_000_000
_SMALL_AT_ONCE = 16


def edits_at_once(device: torch.device, parameters: int) -> int:
    """Return how many edited encoders with this number of parameters to evaluate at once in weight space."""
    return _SMALL_AT_ONCE if device.type == "cuda" and parameters < _SMALL_ENCODER else 1


class WeightSpace(_Space):
    """Edits of the weights: f(x; θ₀ + Σ aₜ τₜ).

    Keeps θ₀ and the task vectors on the device and moves one encoder's parameters in place. ``settings.edits`` edits
    share a pass, each with its own weights, which is faster where one edit does not keep the device busy; ``None``:
    see :func:`edits_at_once`.
    """

    def _keep(self, vectors: Sequence[TaskVector]) -> None:
        parameters = sum(parameter.numel() for parameter in self._parameters.values())
        self._at_once = self.settings.edits or edits_at_once(self.device, parameters)
        self._base = {name: parameter.clone() for name, parameter in self._parameters.items()}
        self._moved = sorted({name for vector in vectors for name in vector.tensors})
        self._moves: list[tuple[list[Tensor], list[Tensor]]] = []
        for vector in vectors:
            names = sorted(vector.tensors)
            self._moves.append(
                ([self._parameters[name] for name in names], [vector.tensors[name].to(self.device) for name in names])
            )

    @contextmanager
    def edited(self, coefficients: Float[Tensor, " tasks"]) -> Iterator[ImageEncoder]:
        """Move the encoder to θ₀ + Σ aₜ τₜ while the block runs, then back to exactly θ₀.

        Vectors are added in order, so equal edits give equal bits.
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
        """See :class:`EditSpace`; inputs are uint8 images. Parameters move once per edit."""
        if self._at_once > 1:
            yield from self._batched_edits(coefficients, batches)
            return
        for edit, row in enumerate(coefficients):
            with self.edited(row) as encoder:
                for index, images in enumerate(batches):
                    with torch.inference_mode():
                        embedded = encoder(images.to(self.device, non_blocking=True))
                    yield edit, index, embedded

    def _batched_edits(
        self, coefficients: Coefficients, batches: Sequence[Tensor]
    ) -> Iterator[tuple[int, int, Float[Tensor, "n features"]]]:
        for start in range(0, len(coefficients), self._at_once):
            weights = self._edited_weights(coefficients[start : start + self._at_once])
            for index, images in enumerate(batches):
                for edit, embedded in enumerate(self._embed_with(weights, images), start):
                    yield edit, index, embedded

    def _edited_weights(self, coefficients: Coefficients) -> dict[str, Float[Tensor, "edits ..."]]:
        """Return the parameters that the task vectors move, stacked over edits."""
        weights: dict[str, list[Tensor]] = {name: [] for name in self._moved}
        for row in coefficients:
            with self.edited(row):
                for name, tensors in weights.items():
                    tensors.append(self._parameters[name].clone())
        return {name: torch.stack(tensors) for name, tensors in weights.items()}

    @torch.inference_mode()
    def _embed_with(
        self, weights: dict[str, Float[Tensor, "edits ..."]], images: UInt8[Tensor, "n 3 height width"]
    ) -> Float[Tensor, "edits n features"]:
        x = self._encoder.normalise(images.to(self.device, non_blocking=True))
        with plain_attention():
            return vmap(lambda moved: functional_call(self._encoder.visual, moved, (x,)))(weights)


class TangentSpace(_Space):
    """Edits of the linearised encoder: f(x; θ₀) + Σ aₜ J(x) τₜ, affine in the coefficients.

    An image is propagated once for all edits, in as few directions as they need.
    """

    def _keep(self, vectors: Sequence[TaskVector]) -> None:
        self._propagate = linearise(self._encoder.visual)
        names = {name for vector in vectors for name in vector.tensors}
        self._tangents = {
            name: torch.stack([vector.tensors.get(name, torch.zeros_like(base)).to(self.device) for vector in vectors])
            for name, base in self._parameters.items()
            if name in names
        }

    def embeddings(
        self, coefficients: Coefficients, batches: Sequence[Tensor]
    ) -> Iterator[tuple[int, int, Float[Tensor, "n features"]]]:
        """See :class:`EditSpace`; inputs are uint8 images. One propagation per batch."""
        weights, directions = _factorise(coefficients.to(self.device))
        tangents = {name: torch.tensordot(directions, tensor, 1) for name, tensor in self._tangents.items()}
        for index, images in enumerate(batches):
            with torch.inference_mode():
                x = self._encoder.normalise(images.to(self.device, non_blocking=True))
                if len(directions):
                    primal, moved = self._propagate(x, tangents)
                    edits = primal + torch.tensordot(weights, moved, 1)
                else:
                    edits = self._encoder.visual(x).expand(len(coefficients), -1, -1)
            for edit, embedded in enumerate(edits):
                yield edit, index, embedded

    def features(self, images: UInt8[Tensor, "_ 3 height width"]) -> Iterator[TangentFeatures]:
        """Yield f₀(x) and J(x) τₜ for every task vector, ``settings.directions`` of them at once, batch by batch."""
        for batch in images.split(self.batch_size):
            yield self._features(batch)

    @torch.inference_mode()
    def _features(self, images: UInt8[Tensor, "n 3 height width"]) -> TangentFeatures:
        x = self._encoder.normalise(images.to(self.device, non_blocking=True))
        parts = [self._encoder.visual(x)[None]]
        for start in range(0, self.size, self.settings.directions):
            chunk = {name: t[start : start + self.settings.directions] for name, t in self._tangents.items()}
            parts.append(self._propagate.tangent(x, chunk))
        return torch.cat(parts).transpose(0, 1)


class FeatureSpace:
    """Edits of the linearised encoder from :meth:`TangentSpace.features`: matrix products, without an encoder."""

    def __init__(self, size: int, device: torch.device, settings: EvaluationSettings) -> None:
        self.size, self.device, self.batch_size = size, device, settings.batch_size

    def embeddings(
        self, coefficients: Coefficients, batches: Sequence[Tensor]
    ) -> Iterator[tuple[int, int, Float[Tensor, "_ features"]]]:
        """See :class:`EditSpace`; inputs are tangent features."""
        weights = torch.nn.functional.pad(coefficients.to(self.device), (1, 0), value=1.0)  # f₀ has weight 1
        for index, features in enumerate(batches):
            edits = torch.einsum("ep,npd->end", weights, features.to(self.device, non_blocking=True))
            for edit, embedded in enumerate(edits):
                yield edit, index, embedded


class Subset:
    """Edits over some of the task vectors of a space, in another order; the other vectors have coefficient 0."""

    def __init__(self, space: EditSpace, positions: Sequence[int]) -> None:
        self.size, self.device, self.batch_size = len(positions), space.device, space.batch_size
        self._space, self._positions = space, list(positions)

    def embeddings(
        self, coefficients: Coefficients, batches: Sequence[Tensor]
    ) -> Iterator[tuple[int, int, Float[Tensor, "_ features"]]]:
        """See :class:`EditSpace`; inputs are the same as for the whole space."""
        full = coefficients.new_zeros(len(coefficients), self._space.size)
        full[:, self._positions] = coefficients
        return self._space.embeddings(full, batches)


def _factorise(
    coefficients: Coefficients,
) -> tuple[Float[Tensor, "edits directions"], Float[Tensor, "directions tasks"]]:
    """Factorise the coefficients into weights and directions.

    Edits that are multiples of each other, such as all α of a grid, share a direction. If that gives no fewer
    directions than there are task vectors in use, each vector is its own direction.
    """
    used = coefficients.ne(0)
    scales = coefficients.gather(1, used.float().argmax(dim=1, keepdim=True))  # each edit's first coefficient
    scaled = coefficients / scales.where(scales != 0, 1)
    directions, position = torch.unique(scaled, dim=0, return_inverse=True)
    moves = directions.ne(0).any(dim=1)
    if moves.sum() < used.any(dim=0).sum():
        return (torch.nn.functional.one_hot(position, len(directions)) * scales)[:, moves], directions[moves]
    vectors = used.any(dim=0)
    return coefficients[:, vectors], torch.eye(coefficients.shape[1], device=coefficients.device)[vectors]
