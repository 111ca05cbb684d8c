"""Task vectors τ = θ − θ₀ and their algebra."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.errors import UserError
from pipeline.models.checkpoints import Provenance


@dataclass(frozen=True, repr=False)
class TaskVector:
    """A direction in parameter space, with only the tensors that were trained.

    tensors: by parameter name of the image encoder; a parameter without an entry does not move.
    """

    tensors: Mapping[str, Float[Tensor, "..."]]
    provenance: Provenance

    @classmethod
    def between(cls, base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], provenance: Provenance) -> "TaskVector":
        """Return τ = tuned − base for the tensors of ``tuned``.

        Raises:
            UserError: a tensor of ``tuned`` is missing from ``base``, has another shape there, or is not finite.
        """
        for name, tensor in tuned.items():
            if name not in base or base[name].shape != tensor.shape:
                raise UserError(f"{provenance}: θ₀ has no tensor {name!r} of shape {list(tensor.shape)}")
            if not torch.isfinite(tensor).all():
                raise UserError(f"{provenance}: tensor {name!r} has NaN or infinite values; train it again")
        return cls({name: tuned[name] - base[name] for name in tuned}, provenance)

    def __add__(self, other: "TaskVector") -> "TaskVector":
        provenance = self._common_provenance(other)
        tensors = dict(self.tensors)
        for name, tensor in other.tensors.items():
            tensors[name] = tensors[name] + tensor if name in tensors else tensor.clone()
        return TaskVector(tensors, provenance)

    def __radd__(self, other: int) -> "TaskVector":
        """Return the vector itself for 0, from which ``sum`` starts."""
        return self if other == 0 else NotImplemented

    def __sub__(self, other: "TaskVector") -> "TaskVector":
        return self + -other

    def __neg__(self) -> "TaskVector":
        return self._map(torch.neg)

    def __mul__(self, coefficient: float) -> "TaskVector":
        return self._map(lambda tensor: tensor * coefficient)

    __rmul__ = __mul__

    def __repr__(self) -> str:
        origin = self.provenance
        parts = [*origin.tasks, origin.model, origin.recipe, f"{origin.space} space", f"{len(self.tensors)} tensors"]
        return f"TaskVector({', '.join(parts)})"

    def dot(self, other: "TaskVector") -> float:
        """Return the inner product over the tensors that both have, accumulated in float64."""
        self.check_combines(other)
        shared = self.tensors.keys() & other.tensors.keys()
        products = (torch.sum(self.tensors[n].double() * other.tensors[n].double()) for n in sorted(shared))
        return float(sum(products))

    def to(self, device: torch.device) -> "TaskVector":
        """Return the same vector on another device."""
        return self._map(lambda tensor: tensor.to(device))

    def norm(self) -> float:
        """Return the Euclidean norm ‖τ‖₂ over all tensors."""
        return math.sqrt(self.dot(self))

    def apply(self, base: Mapping[str, Tensor], coefficient: float = 1.0) -> dict[str, Tensor]:
        """Return θ₀ + coefficient · τ, as a new state dict with all of ``base``'s tensors.

        Raises:
            UserError: the vector has a tensor that ``base`` lacks, or has in another shape.
        """
        self.check_fits(base)
        moved = {name: base[name] + coefficient * tensor for name, tensor in self.tensors.items()}
        return {name: moved.get(name, tensor) for name, tensor in base.items()}

    def check_fits(self, base: Mapping[str, Tensor]) -> None:
        """Check that θ₀ has every tensor of the vector, in the same shape: broadcasting would hide a mismatch.

        Raises:
            UserError: naming the first tensor that does not fit.
        """
        for name, tensor in sorted(self.tensors.items()):
            if name not in base or base[name].shape != tensor.shape:
                raise UserError(f"{self.provenance}: θ₀ has no tensor {name!r} of shape {list(tensor.shape)}")

    def check_combines(self, other: "TaskVector") -> None:
        """Check that both vectors start from the same θ₀ and that the tensors they share have the same shape.

        Raises:
            UserError: naming both.
        """
        mine, theirs = self.provenance, other.provenance
        if mine.base_sha256 != theirs.base_sha256:
            raise UserError(
                f"task vectors of different θ₀ cannot be combined: {mine} starts from "
                f"{mine.base_sha256[:12]}, {theirs} from {theirs.base_sha256[:12]}"
            )
        for name in sorted(self.tensors.keys() & other.tensors.keys()):
            if self.tensors[name].shape != other.tensors[name].shape:
                raise UserError(f"{mine} and {theirs}: tensor {name!r} differs in shape")

    def _map(self, function: Callable[[Tensor], Tensor]) -> "TaskVector":
        return TaskVector({name: function(tensor) for name, tensor in self.tensors.items()}, self.provenance)

    def _common_provenance(self, other: "TaskVector") -> Provenance:
        self.check_combines(other)
        mine, theirs = self.provenance, other.provenance
        return replace(
            mine,
            tasks=tuple(sorted({*mine.tasks, *theirs.tasks})),
            recipe="+".join(sorted({*mine.recipe.split("+"), *theirs.recipe.split("+")})),
        )


def sum_vectors(vectors: Iterable[TaskVector]) -> TaskVector:
    """Return Στ over one or more task vectors, in the order given.

    Raises:
        UserError: none are given, or they start from different θ₀.
    """
    vectors = list(vectors)
    if not vectors:
        raise UserError("no task vectors to sum; name at least one")
    return reduce(TaskVector.__add__, vectors)
