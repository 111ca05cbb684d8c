"""Exact order statistics of vectors that are seen one tensor at a time."""

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

_HALF = 1 << 16


def kth_smallest(
    rows: Callable[[], Iterable[Float[Tensor, "tasks _"]]], ranks: Callable[[int], Sequence[int]]
) -> Float[Tensor, "tasks ranks"]:
    """Return the values of some ranks (0 is the smallest) of each row, on the rows' device.

    A radix selection: one pass counts the upper 16 bits of every float32, a second one the lower 16 bits of those
    that share a wanted value's upper half. So nothing but counts is held.

    Args:
        rows: gives the pieces of the rows, the same ones each time.
        ranks: the ranks, below the row's length, which is given to it.
    """
    upper, device = _count_upper(rows())
    length = int(upper[0].sum())
    buckets, remaining = zip(*(_locate(upper, torch.full((len(upper),), rank)) for rank in ranks(length)), strict=True)
    lower = _count_lower(rows(), torch.stack(buckets, 1))
    values = []
    for bucket, rank, counts in zip(buckets, remaining, lower.unbind(1), strict=True):
        low, _ = _locate(counts, rank)
        values.append(_float(((bucket - _HALF // 2) << 16) + low))
    return torch.stack(values, 1).to(device)


def _ordered(values: Float[Tensor, "tasks n"]) -> Int[Tensor, "tasks n"]:
    """Return integers in the order of the floats: the bits, with those of negative numbers but the sign flipped."""
    bits = values.contiguous().float().view(torch.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _float(ordered: Int[Tensor, " tasks"]) -> Float[Tensor, " tasks"]:
    bits = ordered.int()
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32)


def _upper(ordered: Int[Tensor, "tasks n"]) -> Int[Tensor, "tasks n"]:
    """Return the bin of each number's upper half, from 0."""
    return (ordered >> 16) + _HALF // 2


def _count_upper(pieces: Iterable[Float[Tensor, "tasks _"]]) -> tuple[Int[Tensor, "tasks bins"], torch.device]:
    counts, device = torch.zeros(0, _HALF, dtype=torch.int64), torch.device("cpu")
    for piece in pieces:
        if not len(counts):
            counts, device = torch.zeros(len(piece), _HALF, dtype=torch.int64, device=piece.device), piece.device
        for count, row in zip(counts, _upper(_ordered(piece)), strict=True):
            count += torch.bincount(row, minlength=_HALF)
    assert len(counts), "task vectors hold at least one tensor"
    return counts.cpu(), device


def _count_lower(
    pieces: Iterable[Float[Tensor, "tasks _"]], buckets: Int[Tensor, "tasks ranks"]
) -> Int[Tensor, "tasks ranks bins"]:
    """Count the lower halves of the numbers whose upper half is in a bucket."""
    counts = torch.zeros(*buckets.shape, _HALF, dtype=torch.int64)
    for piece in pieces:
        ordered = _ordered(piece)
        for task, (row, bins) in enumerate(zip(ordered, _upper(ordered), strict=True)):
            for rank, bucket in enumerate(buckets[task].tolist()):
                inside = row[bins == bucket] & (_HALF - 1)
                counts[task, rank] += torch.bincount(inside, minlength=_HALF).cpu()
    return counts


def _locate(counts: Int[Tensor, "tasks bins"], rank: Int[Tensor, " tasks"]) -> tuple[Tensor, Tensor]:
    """Return the bin that holds a rank, per row, and the rank within it."""
    ends = counts.cumsum(1)
    bins = torch.searchsorted(ends, rank[:, None], right=True)
    before = torch.where(bins > 0, ends.gather(1, (bins - 1).clamp(min=0)), 0)
    return bins[:, 0], rank - before[:, 0]
