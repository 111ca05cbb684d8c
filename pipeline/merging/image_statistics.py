"""Methods that weight task vectors by statistics of the tasks' unlabelled images."""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pipeline.merging.context import Context, Deltas, Stream
from pipeline.merging.elementwise import Fraction
from pipeline.merging.matrices import OnMatrices
from pipeline.merging.registry import merging
from pipeline.merging.spectral import Matrices


def _shares(stream: Stream, *, minimum: Annotated[float, Field(gt=0)]) -> Float[Tensor, " tasks"]:
    """Return each task's share, in inverse proportion to the norm of its whole Fisher diagonal."""
    squares = sum(context.statistics.double().flatten(1).square().sum(1) for context, _ in stream)  # pyright: ignore
    shares = 1 / (squares.sqrt() + minimum)  # pyright: ignore[reportAttributeAccessIssue]
    return (shares / shares.sum()).float()


@merging("fisher", sees="other tasks' statistics", needs="fisher", first_pass=_shares)
def fisher(deltas: Deltas, context: Context, *, minimum: Annotated[float, Field(gt=0)] = 1e-6) -> Deltas:
    """The mean of the task vectors, each entry weighted by its Fisher information.

    Matena and Raffel, Merging Models with Fisher-Weighted Averaging; ``minimum`` is added to the information, which is
    scaled to the same norm for every task.
    """
    assert context.statistics is not None
    shares = context.summary.reshape(-1, *[1] * (deltas.ndim - 1))
    weights = shares * (context.statistics + minimum)
    return deltas * weights / weights.sum(0)


@merging("regmean", sees="other tasks' statistics", needs="gram", matrices=OnMatrices())
def regmean(deltas: Matrices, context: Context, *, off_diagonal: Fraction = 0.95) -> Matrices:
    """The linear layer whose outputs are nearest to each task's layer on that task's inputs: Σ τₜ Gₜ (Σ Gₜ)⁻¹.

    Jin et al., Dataless Knowledge Fusion: Gₜ = E[x xᵀ] of the layer's inputs, its off-diagonal entries scaled down.
    """
    assert context.statistics is not None
    grams = context.statistics.double()
    diagonal = torch.diag_embed(grams.diagonal(dim1=1, dim2=2))
    grams = off_diagonal * grams + (1 - off_diagonal) * diagonal
    # Least squares, since an input that is never active makes the sum singular.
    return deltas.double() @ grams @ torch.linalg.pinv(grams.sum(0), hermitian=True)
