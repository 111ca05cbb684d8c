"""Methods of singular vectors. Matrices come in float32, ``[tasks, rows, columns]``, and are decomposed in float64."""

from functools import reduce
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pipeline.merging.context import Context
from pipeline.merging.matrices import OnMatrices
from pipeline.merging.registry import merging

Matrices = Float[Tensor, "tasks rows columns"]
MergedMatrices = Float[Tensor, "parts rows columns"]
Matrix = Float[Tensor, "rows columns"]


@merging("tsv_m", matrices=OnMatrices())
def tsv_m(deltas: Matrices, context: Context) -> MergedMatrices:
    """Give every task an equal share of the rank, and make the tasks' singular vectors orthogonal to each other.

    Gargiulo et al., Task Singular Vectors: the leading ⌊r/T⌋ triples of each task; U and V of all tasks side by side
    are replaced by their polar factors.
    """
    share = min(deltas.shape[1:]) // len(deltas)
    if not share:
        return torch.zeros_like(deltas)
    triples = [leading(delta.double(), share) for delta in deltas]
    left, singular, right = (torch.cat(parts, -1) for parts in zip(*triples, strict=True))
    left, right = polar(left) * singular, polar(right)
    if context.only_sum:
        return (left @ right.T)[None]
    pairs = zip(left.split(share, 1), right.split(share, 1), strict=True)
    return torch.stack([u @ v.T for u, v in pairs])


@merging("iso_c", matrices=OnMatrices())
def iso_c(deltas: Matrices, context: Context) -> MergedMatrices:
    """Set all singular values of the sum to their mean.

    Marczak et al., No Task Left Behind. A task's part of a direction follows its share of what all tasks have in it.
    """
    left, singular, right = leading(total(deltas), min(deltas.shape[1:]))
    left = (left * singular.mean()).float()  # a float32 result does not need more
    if context.only_sum:
        return (left @ right.T.float())[None]
    return left * _shares(deltas, right)[:, None] @ right.T.float()


@merging("iso_cts", matrices=OnMatrices())
def iso_cts(deltas: Matrices, context: Context, *, common: Annotated[float, Field(ge=0, le=1)] = 0.8) -> MergedMatrices:
    """Iso-C whose weakest common directions give way to directions of single tasks.

    Marczak et al., No Task Left Behind: ``common`` of the sum's rank stays, the remainder is shared by the tasks, each
    with the leading directions of what its vector has outside the common ones. Parts of common directions as in Iso-C.
    """
    tasks, rank = len(deltas), min(deltas.shape[1:])
    share = round((rank - int(rank * common)) / tasks)
    shared = leading(total(deltas), rank - share * tasks)
    bases = [_outside(delta.double(), shared[0], share) for delta in deltas]
    left, singular, right = (torch.cat(parts, -1) for parts in zip(*bases, shared, strict=True))
    left, right = (polar(left) * singular.mean()).float(), polar(right).float()
    if context.only_sum:
        return (left @ right.T)[None]
    own = torch.stack([left[:, _slot(t, share)] @ right[:, _slot(t, share)].T for t in range(tasks)])
    parts = left[:, share * tasks :] * _shares(deltas, shared[2])[:, None]
    return own + parts @ right[:, share * tasks :].T


def _outside(delta: Matrix, left: Float[Tensor, "rows common"], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the leading singular triples of what a matrix has outside the given left directions."""
    return leading(delta - left @ (left.T @ delta), count, delta.square().sum() / min(delta.shape))


@merging("cart", matrices=OnMatrices())
def cart(
    deltas: Matrices,
    context: Context,
    *,
    rank: Annotated[float, Field(ge=0, le=1)] = 0.5,
    coefficient: Annotated[float, Field(ge=0)] = 0.5,
) -> Matrices:
    """The average, and what singles out each task around it, truncated to a fraction of the rank.

    Choi et al., Revisiting Weight Averaging: mean(τ) + coefficient Σ SVDₖ(τ − mean(τ)).
    """
    kept = int(min(deltas.shape[1:]) * rank)
    mean = total(deltas) / len(deltas)
    triples = (leading(delta - mean, kept) for delta in deltas)
    return deltas / len(deltas) + coefficient * torch.stack([((u * s) @ v.T).float() for u, s, v in triples])


def total(deltas: Matrices) -> Matrix:
    """Return the sum in float64, without a float64 copy of each."""
    return reduce(torch.Tensor.add_, deltas[1:], deltas[0].to(torch.float64, copy=True))


def leading(
    matrix: Matrix, count: int, scale: Float[Tensor, ""] | None = None
) -> tuple[Float[Tensor, "rows count"], Float[Tensor, " count"], Float[Tensor, "columns count"]]:
    """Return the leading singular triples U, S, V, by the eigenvectors of the smaller Gram matrix.

    In float64 that is exact to float32's last digits, in a third of an SVD's time. Directions that the matrix does not
    have get S = 0 and vectors of 0. ``scale``: as for :func:`decompose`.
    """
    if matrix.shape[0] < matrix.shape[1]:
        right, singular, left = leading(matrix.T, count, scale)
        return left, singular, right
    values, vectors = decompose(matrix.T @ matrix, scale)
    values, vectors = values.flip(0)[:count], vectors.flip(1)[:, :count]
    singular = values.sqrt()
    return matrix @ (vectors * invert(singular)), singular, vectors * (singular > 0)


def polar(matrix: Matrix) -> Matrix:
    """Return the nearest matrix with orthonormal columns (rows, if those are fewer): U Vᵀ of its SVD U S Vᵀ.

    Where columns depend on each other, it is orthonormal on their span.
    """
    if matrix.shape[0] < matrix.shape[1]:
        return polar(matrix.T).T
    values, vectors = decompose(matrix.T @ matrix)
    return matrix @ ((vectors * invert(values.sqrt())) @ vectors.T)


_ROUNDING = 1e-13  # of a float32 matrix, in its Gram matrix's eigenvalues, relative to the largest one


def decompose(
    gram: Float[Tensor, "n n"], scale: Float[Tensor, ""] | None = None
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    """Return eigenvalues, ascending, and eigenvectors of a Gram matrix; values that are rounding errors are 0.

    ``scale`` is a squared singular value of what the matrix is a small remainder of, which its rounding errors follow.
    """
    values, vectors = torch.linalg.eigh(gram)
    largest = values[-1] if scale is None else scale.maximum(values[-1])
    noise = largest * max(len(gram) * torch.finfo(gram.dtype).eps, _ROUNDING)
    return torch.where(values > noise, values, 0), vectors


def invert(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return 1/x, and 0 for 0."""
    return torch.where(values > 0, 1 / values, 0)


def _shares(deltas: Matrices, right: Float[Tensor, "columns rank"]) -> Float[Tensor, "tasks rank"]:
    """Return each task's share of the energy that all tasks have in given directions, in float32.

    τ V S⁻¹ Vᵀ would split the sum, too, but where tasks cancel such parts are many times their sum.
    """
    energy = (deltas @ right.float()).square().sum(1).double()
    return (energy * invert(energy.sum(0))).float()


def _slot(task: int, share: int) -> slice:
    return slice(task * share, (task + 1) * share)
