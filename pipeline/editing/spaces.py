"""Edit spaces: where an edit, coefficients over task vectors, takes effect."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.func import functional_call, vmap

from pipeline.editing.task_vector import TaskVector
from pipeline.models.encoders import ImageEncoder
from pipeline.tangent import linearise, plain_attention

Coefficients = Float[Tensor, "edits tasks"]
# Of every image f₀(x), then J(x) τₜ of every task vector.
Features = Float[Tensor, "n parts features"]


@runtime_checkable
class EditSpace(Protocol):
    """Turns inputs into the embeddings of edited models.

    The T task vectors are the space's own; an edit is a row of T coefficients over them. What the inputs are is the
    space's to say: images, or what it needs of them.
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
        """Yield ``(edit, batch, embeddings)`` for every edit and every batch of inputs, once each."""
        ...


class _Space:
    """A frozen encoder at θ₀ on the device, and task vectors that fit it."""

    def __init__(self, encoder: ImageEncoder, vectors: Sequence[TaskVector], device: torch.device) -> None:
        """
        Raises:
            UserError: a vector holds a tensor that the encoder lacks, or has in another shape.
        """
        self.device = device
        self.size = len(vectors)
        self._encoder = encoder.to(device).eval().requires_grad_(False)
        self._parameters = dict(encoder.visual.named_parameters())
        for vector in vectors:
            vector.check_fits(self._parameters)


# Where several edits at once are faster, and how many (benchmarks/RECORDS.md): on an H100, 16 of mini-clip (0.8 M
# parameters) take a seventh of the time, while ViT-B/32 (88 M) keeps it busy alone. A CPU is always busy with one.
_SMALL_ENCODER = 10_000_000
_SMALL_AT_ONCE = 16


def edits_at_once(device: torch.device, parameters: int) -> int:
    """How many edited encoders of so many parameters are best evaluated at once in weight space."""
    return _SMALL_AT_ONCE if device.type == "cuda" and parameters < _SMALL_ENCODER else 1


class WeightSpace(_Space):
    """Edits of the weights: f(x; θ₀ + Σ aₜ τₜ).

    Keeps θ₀ and the task vectors on the device and moves one encoder's parameters in place. ``at_once`` edits share a
    pass, each with weights of its own: where the device is not busy with one, that is faster. ``None``: see
    :func:`edits_at_once`.
    """

    def __init__(
        self, encoder: ImageEncoder, vectors: Sequence[TaskVector], device: torch.device, at_once: int | None = None
    ) -> None:
        super().__init__(encoder, vectors, device)
        self._at_once = at_once or edits_at_once(device, sum(p.numel() for p in self._parameters.values()))
        self._base = {name: parameter.clone() for name, parameter in self._parameters.items()}
        self._moved = sorted({name for vector in vectors for name in vector.tensors})
        self._moves: list[tuple[list[Tensor], list[Tensor]]] = []
        for vector in vectors:
            names = sorted(vector.tensors)
            self._moves.append(
                ([self._parameters[name] for name in names], [vector.tensors[name].to(device) for name in names])
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
        """See :class:`EditSpace`, of uint8 images. Parameters move once per edit."""
        if self._at_once > 1:
            yield from self._side_by_side(coefficients, batches)
            return
        for edit, row in enumerate(coefficients):
            with self.edited(row) as encoder:
                for index, images in enumerate(batches):
                    with torch.inference_mode():
                        embedded = encoder(images.to(self.device, non_blocking=True))
                    yield edit, index, embedded

    def _side_by_side(
        self, coefficients: Coefficients, batches: Sequence[Tensor]
    ) -> Iterator[tuple[int, int, Float[Tensor, "n features"]]]:
        for start in range(0, len(coefficients), self._at_once):
            weights = self._weights(coefficients[start : start + self._at_once])
            for index, images in enumerate(batches):
                for edit, embedded in enumerate(self._embed_all(weights, images), start):
                    yield edit, index, embedded

    def _weights(self, coefficients: Coefficients) -> dict[str, Float[Tensor, "edits ..."]]:
        """What the task vectors move, of every edit."""
        weights: dict[str, list[Tensor]] = {name: [] for name in self._moved}
        for row in coefficients:
            with self.edited(row):
                for name, tensors in weights.items():
                    tensors.append(self._parameters[name].clone())
        return {name: torch.stack(tensors) for name, tensors in weights.items()}

    @torch.inference_mode()
    def _embed_all(
        self, weights: dict[str, Float[Tensor, "edits ..."]], images: UInt8[Tensor, "n 3 height width"]
    ) -> Float[Tensor, "edits n features"]:
        x = self._encoder.normalise(images.to(self.device, non_blocking=True))
        with plain_attention():
            return vmap(lambda moved: functional_call(self._encoder.visual, moved, (x,)))(weights)


class TangentSpace(_Space):
    """Edits of the linearised encoder: f(x; θ₀) + Σ aₜ J(x) τₜ, affine in the coefficients.

    An image is propagated once for all edits, in as few directions as they need.
    """

    def __init__(self, encoder: ImageEncoder, vectors: Sequence[TaskVector], device: torch.device) -> None:
        super().__init__(encoder, vectors, device)
        self._propagate = linearise(encoder.visual)
        names = {name for vector in vectors for name in vector.tensors}
        self._tangents = {
            name: torch.stack([vector.tensors.get(name, torch.zeros_like(base)).to(device) for vector in vectors])
            for name, base in self._parameters.items()
            if name in names
        }

    def embeddings(
        self, coefficients: Coefficients, batches: Sequence[Tensor]
    ) -> Iterator[tuple[int, int, Float[Tensor, "n features"]]]:
        """See :class:`EditSpace`, of uint8 images. One propagation per batch."""
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

    def features(
        self, images: UInt8[Tensor, "_ 3 height width"], batch_size: int, directions: int
    ) -> Iterator[Features]:
        """f₀(x) and J(x) τₜ for every task vector, at most ``directions`` of them at once, batch by batch."""
        for batch in images.split(batch_size):
            yield self._features(batch, directions)

    @torch.inference_mode()
    def _features(self, images: UInt8[Tensor, "n 3 height width"], directions: int) -> Features:
        x = self._encoder.normalise(images.to(self.device, non_blocking=True))
        parts = [self._encoder.visual(x)[None]]
        for start in range(0, self.size, directions):
            chunk = {name: tensor[start : start + directions] for name, tensor in self._tangents.items()}
            parts.append(self._propagate.tangent(x, chunk))
        return torch.cat(parts).transpose(0, 1)


class FeatureSpace:
    """Edits of the linearised encoder from what :meth:`TangentSpace.features` gave: matrix products, no encoder."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.size, self.device = size, device

    def embeddings(
        self, coefficients: Coefficients, batches: Sequence[Tensor]
    ) -> Iterator[tuple[int, int, Float[Tensor, "_ features"]]]:
        """See :class:`EditSpace`, of tangent features."""
        weights = torch.nn.functional.pad(coefficients.to(self.device), (1, 0), value=1.0)  # of f₀: 1
        for index, features in enumerate(batches):
            edits = torch.einsum("ep,npd->end", weights, features.to(self.device, non_blocking=True))
            for edit, embedded in enumerate(edits):
                yield edit, index, embedded


class Subset:
    """Edits over some of the task vectors of a space, in an order of their own: the rest keep the coefficient 0."""

    def __init__(self, space: EditSpace, positions: Sequence[int]) -> None:
        self.size, self.device = len(positions), space.device
        self._space, self._positions = space, list(positions)

    def embeddings(
        self, coefficients: Coefficients, batches: Sequence[Tensor]
    ) -> Iterator[tuple[int, int, Float[Tensor, "_ features"]]]:
        """See :class:`EditSpace`, of the inputs that the whole space takes."""
        of_all = coefficients.new_zeros(len(coefficients), self._space.size)
        of_all[:, self._positions] = coefficients
        return self._space.embeddings(of_all, batches)


def _factorise(
    coefficients: Coefficients,
) -> tuple[Float[Tensor, "edits directions"], Float[Tensor, "directions tasks"]]:
    """Weights and directions whose product are the coefficients.

    Edits that are multiples of each other, as all α of a grid, share a direction. Where that makes no fewer
    directions than there are task vectors in use, each vector is a direction of its own.
    """
    used = coefficients.ne(0)
    scales = coefficients.gather(1, used.float().argmax(dim=1, keepdim=True))  # of an edit: its first coefficient
    scaled = coefficients / scales.where(scales != 0, 1)
    directions, position = torch.unique(scaled, dim=0, return_inverse=True)
    moves = directions.ne(0).any(dim=1)
    if moves.sum() < used.any(dim=0).sum():
        return (torch.nn.functional.one_hot(position, len(directions)) * scales)[:, moves], directions[moves]
    vectors = used.any(dim=0)
    return coefficients[:, vectors], torch.eye(coefficients.shape[1], device=coefficients.device)[vectors]
