"""Methods that treat every entry by itself: sums, means, masks and elected signs."""

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pipeline.merging.context import Context, Deltas, Merged, Stream
from pipeline.merging.quantiles import kth_smallest
from pipeline.merging.registry import merging

Fraction = Annotated[float, Field(gt=0, le=1)]
Drop = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0)]
Part = Float[Tensor, "tasks n"]


@merging("sum", divisor=lambda tasks: 1)
def sum_(deltas: Deltas, context: Context) -> Deltas:
    """Task arithmetic: the task vectors themselves."""
    return deltas


@merging("average", divisor=lambda tasks: tasks)
def average(deltas: Deltas, context: Context) -> Merged:
    """The mean of the task vectors."""
    return (deltas.sum(0, keepdim=True) if context.only_sum else deltas) / len(deltas)


def _thresholds(stream: Stream, *, keep: Fraction) -> Float[Tensor, " tasks"]:
    """Return the magnitude from which an entry is among the largest ``keep`` of its whole task vector."""

    def rank(size: int) -> list[int]:
        return [max(size - int(size * keep) - 1, 0)]  # the authors' kthvalue, which counts from 1

    return kth_smallest(lambda: _pieces(stream, torch.abs), rank)[:, 0]


@merging("ties", first_pass=_thresholds)
def ties(deltas: Deltas, context: Context, *, keep: Fraction = 0.2) -> Merged:
    """Trim each task vector to its largest entries, elect a sign per entry, average the entries of that sign.

    Yadav et al., TIES-Merging. ``keep`` is the fraction of the whole task vector that is kept. Where the tasks cancel
    exactly, no sign is elected and the entry is 0; the authors let it take the sign that most other entries have.
    """

    def elect(part: Part) -> Part:
        trimmed = part * (part.abs() >= context.summary[:, None])
        agreeing = trimmed * (trimmed.sign() == trimmed.sum(0).sign())
        return agreeing / (agreeing != 0).sum(0).clamp(min=1)

    return _in_parts(elect, deltas, context)


@merging("dare")
def dare(deltas: Deltas, context: Context, *, drop: Drop = 0.9, seed: Seed = 0) -> Deltas:
    """Drop entries at random and divide the others by the probability that they stay.

    Yu et al., Language Models are Super Mario. Each tensor of each task has a generator of its own, seeded by both
    names, so that neither the tasks' order nor the device changes what is dropped.
    """
    kept = [_uniform(delta.shape, context.name, task, seed) >= drop for delta, task in _by_task(deltas, context)]
    return deltas * torch.stack(kept).to(deltas.device) / (1 - drop)


def _dare_thresholds(stream: Stream, *, keep: Fraction, drop: Drop, seed: Seed) -> Float[Tensor, " tasks"]:
    dropped = Stream(lambda: ((c, dare(deltas, c, drop=drop, seed=seed)) for c, deltas in stream))
    return _thresholds(dropped, keep=keep)


@merging("dare_ties", first_pass=_dare_thresholds)
def dare_ties(deltas: Deltas, context: Context, *, keep: Fraction = 0.2, drop: Drop = 0.9, seed: Seed = 0) -> Merged:
    """TIES of what DARE leaves."""
    return ties(dare(deltas, context, drop=drop, seed=seed), context, keep=keep)


@merging("breadcrumbs")
def breadcrumbs(deltas: Deltas, context: Context, *, keep: Fraction = 0.15, remove: Drop = 0.006) -> Deltas:
    """Remove the largest entries of each row, then keep the largest ``keep`` of the row.

    Davari and Belilovsky, Model Breadcrumbs; a row is along the tensor's last dimension, and scalars stay.
    """
    if deltas.ndim == 1:
        return deltas
    width = deltas.shape[-1]
    largest = deltas.abs().sort(dim=-1, descending=True, stable=True).indices
    chosen = largest[..., int(width * remove) :][..., : int(width * keep)]
    return deltas * torch.zeros_like(deltas).scatter_(-1, chosen, 1)


@merging("consensus")
def consensus(
    deltas: Deltas,
    context: Context,
    *,
    threshold: Annotated[float, Field(ge=0)] = 0.4,
    agree: Annotated[int, Field(ge=1)] = 2,
) -> Merged:
    """Keep the entries that at least ``agree`` tasks' TALL masks use.

    Wang et al., Localizing Task Information. A task uses an entry where it moves further from θ₀ than ``threshold``
    times its distance to the sum of all task vectors. The authors choose it per task on val, from 0.2 to 0.6.
    """

    def select(part: Part) -> Part:
        used = part.abs() > threshold * (part.sum(0) - part).abs()
        return part * (used.sum(0) >= min(agree, len(part)))

    return _in_parts(select, deltas, context)


_TAIL = 0.01  # of the magnitudes, cut off at either end


def _competition(stream: Stream, *, keep: Fraction) -> dict[str, Float[Tensor, " tasks"]]:
    """The range of a task's magnitudes without their tails, and the range of its scores that are kept."""

    def tails(size: int) -> list[int]:
        return [int(size * _TAIL), int(size * (1 - _TAIL) - 1)]

    def best(size: int) -> list[int]:
        return [int(size * (1 - keep)), size - 1]

    low, high = kth_smallest(lambda: _pieces(stream, torch.abs), tails).unbind(1)
    scores = partial(_pieces, stream, lambda part: _balance(part, low, high)[1])
    floor, ceiling = kth_smallest(scores, best).unbind(1)
    return {"low": low, "high": high, "floor": floor, "ceiling": ceiling}


def _balance(deltas: Part, low: Float[Tensor, " tasks"], high: Float[Tensor, " tasks"]) -> tuple[Part, Part]:
    """Clamped deltas, and how each entry competes within its task and agrees with the other tasks."""
    low, high = low[:, None], high[:, None]
    magnitude = deltas.abs().clamp(low, high)
    size = (magnitude - low) / (high - low).clamp(min=torch.finfo(deltas.dtype).tiny)
    signed = deltas.sign() * size
    agreement = torch.stack([torch.tanh(own * signed).sum(0) for own in signed])
    return deltas.sign() * magnitude, torch.exp(len(deltas) * size.square()) * agreement


@merging("pcb", first_pass=_competition)
def pcb(deltas: Deltas, context: Context, *, keep: Fraction = 0.05) -> Merged:
    """Weight every entry by how it competes within its task and agrees with the others; the best ``keep`` count.

    Du et al., Parameter Competition Balancing, without its λ of 1.2, which is the coefficient α.
    """
    limits = context.summary
    floor, ceiling = limits["floor"][:, None], limits["ceiling"][:, None]

    def weight(part: Part) -> Part:
        clamped, score = _balance(part, limits["low"], limits["high"])
        scale = (score.clamp(min=floor) - floor) / (ceiling - floor).clamp(min=torch.finfo(part.dtype).tiny)
        return clamped * scale / scale.sum(0).clamp(min=1e-12)

    return _in_parts(weight, deltas, context)


_PART = 1 << 15  # entries per task: what is made of them stays in the processor's cache


def _in_parts(function: Callable[[Part], Part], deltas: Deltas, context: Context) -> Merged:
    """Apply a function of entries to a few of them at a time, and add the results up where only their sum counts."""
    results = [function(part) for part in deltas.flatten(1).split(_PART, 1)]
    if context.only_sum:
        results = [result.sum(0, keepdim=True) for result in results]
    return torch.cat(results, 1).reshape(-1, *deltas.shape[1:])


def _pieces(stream: Stream, function: Callable[[Part], Part]) -> Iterator[Part]:
    """Give a function of all tensors' entries, a few of them at a time."""
    return (function(part) for _, deltas in stream for part in deltas.flatten(1).split(_PART, 1))


def _by_task(deltas: Deltas, context: Context) -> Iterator[tuple[Tensor, str]]:
    return zip(deltas, context.tasks, strict=True)


def _uniform(shape: torch.Size, name: str, task: str, seed: int) -> Float[Tensor, "..."]:
    digest = hashlib.sha256(f"{seed}\n{task}\n{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.rand(shape, generator=generator)
