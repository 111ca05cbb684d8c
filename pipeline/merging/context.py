"""Inputs of a merging method: the tensors of T task vectors, one name at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

Deltas = Float[Tensor, "tasks ..."]
# One tensor per task, or their sum alone where only that counts.
Merged = Float[Tensor, "parts ..."]


@dataclass(frozen=True)
class Context:
    """Information about the current tensor besides its deltas.

    name: the parameter's name.
    tasks: the tasks' names, in the order of the deltas.
    originals: the deltas before any method or modifier, which modifiers compare with.
    blocks: the number of the encoder's residual blocks.
    summary: the result of the method's first pass.
    statistics: the statistics that the method ``needs`` for this tensor, ``[tasks, ...]``.
    only_sum: whether only the sum of the results counts, so that a method may return it alone, ``[1, ...]``.
    """

    name: str
    tasks: tuple[str, ...]
    originals: Deltas
    blocks: int
    summary: Any = None
    statistics: Deltas | None = None
    only_sum: bool = False


@dataclass(frozen=True)
class Stream:
    """The tensors of T task vectors, one name at a time; can be iterated repeatedly.

    The deltas are valid until the next tensor is asked for.
    """

    tensors: Callable[[], Iterator[tuple[Context, Deltas]]]

    def __iter__(self) -> Iterator[tuple[Context, Deltas]]:
        return self.tensors()
