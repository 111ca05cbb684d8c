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


@dataclass(frozen=True)
class TaskVector:
    """A direction in parameter space that holds only the tensors that were trained.

    tensors: by parameter name of the image encoder; a parameter without an entry does not move.
    """

    tensors: Mapping[str, Float[Tensor, "..."]]
    provenance: Provenance

    @classmethod
    def between(cls, base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], provenance: Provenance) -> "TaskVector":
        """τ = tuned − base, for the tensors of ``tuned``.

        Raises:
            UserError: ``tuned`` has a tensor that ``base`` lacks, or of another shape, or that is not finite.
        """
        for name, tensor in tuned.items():
            if name not in base or base[name].shape != tensor.shape:
                raise UserError(f"{provenance}: tensor {name!r} does not exist in θ₀ with this shape")
            if not torch.isfinite(tensor).all():
                raise UserError(f"{provenance}: tensor {name!r} holds NaN or infinity; train it again")
        return cls({name: tuned[name] - base[name] for name in tuned}, provenance)

    def __add__(self, other: "TaskVector") -> "TaskVector":
        provenance = self._common_provenance(other)
        tensors = dict(self.tensors)
        for name, tensor in other.tensors.items():
            tensors[name] = tensors[name] + tensor if name in tensors else tensor.clone()
        return TaskVector(tensors, provenance)

    def __sub__(self, other: "TaskVector") -> "TaskVector":
        return self + -other

    def __neg__(self) -> "TaskVector":
        return self._map(torch.neg)

    def __mul__(self, coefficient: float) -> "TaskVector":
        return self._map(lambda tensor: tensor * coefficient)

    __rmul__ = __mul__

    def dot(self, other: "TaskVector") -> float:
        """Inner product over the tensors that both hold, accumulated in float64."""
        self._common_provenance(other)
        shared = self.tensors.keys() & other.tensors.keys()
        products = (torch.sum(self.tensors[n].double() * other.tensors[n].double()) for n in sorted(shared))
        return float(sum(products))

    def to(self, device: torch.device) -> "TaskVector":
        """The same vector on another device."""
        return self._map(lambda tensor: tensor.to(device))

    def norm(self) -> float:
        """Euclidean norm ‖τ‖₂ over all tensors."""
        return math.sqrt(self.dot(self))

    def apply(self, base: Mapping[str, Tensor], coefficient: float = 1.0) -> dict[str, Tensor]:
        """θ₀ + coefficient · τ, as a new state dict with all of ``base``'s tensors.

        Raises:
            UserError: the vector holds a tensor that ``base`` lacks, or has in another shape.
        """
        self.check_fits(base)
        moved = {name: base[name] + coefficient * tensor for name, tensor in self.tensors.items()}
        return {name: moved.get(name, tensor) for name, tensor in base.items()}

    def check_fits(self, base: Mapping[str, Tensor]) -> None:
        """Check that θ₀ has every tensor of the vector in its shape; broadcasting would hide that it has not.

        Raises:
            UserError: naming the first tensor that does not fit.
        """
        for name, tensor in sorted(self.tensors.items()):
            if name not in base or base[name].shape != tensor.shape:
                raise UserError(f"{self.provenance}: θ₀ has no tensor {name!r} of shape {list(tensor.shape)}")

    def _map(self, function: Callable[[Tensor], Tensor]) -> "TaskVector":
        return TaskVector({name: function(tensor) for name, tensor in self.tensors.items()}, self.provenance)

    def _common_provenance(self, other: "TaskVector") -> Provenance:
        mine, its = self.provenance, other.provenance
        if mine.base_sha256 != its.base_sha256:
            raise UserError(
                f"task vectors of different θ₀ cannot be combined: {mine} starts from "
                f"{mine.base_sha256[:12]}, {its} from {its.base_sha256[:12]}"
            )
        for name in self.tensors.keys() & other.tensors.keys():
            if self.tensors[name].shape != other.tensors[name].shape:
                raise UserError(f"{mine} and {its}: tensor {name!r} differs in shape")
        return replace(
            mine,
            tasks=tuple(sorted({*mine.tasks, *its.tasks})),
            paradigm="+".join(sorted({*mine.paradigm.split("+"), *its.paradigm.split("+")})),
        )


def sum_vectors(vectors: Iterable[TaskVector]) -> TaskVector:
    """Στ over one or more task vectors, in the order given.

    Raises:
        UserError: none are given, or they start from different θ₀.
    """
    vectors = list(vectors)
    if not vectors:
        raise UserError("no task vectors to sum; name at least one")
    return reduce(TaskVector.__add__, vectors)
