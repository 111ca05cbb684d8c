"""Modifiers, which transform the result of a merging method."""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pipeline.merging.context import Context, Deltas, Stream
from pipeline.merging.matrices import OnMatrices, block_of
from pipeline.merging.registry import modifier
from pipeline.merging.spectral import Matrices, MergedMatrices, invert, leading, total


def _intercept(stream: Stream) -> float:
    """Return ‖Στ‖ / ‖merged‖ / T."""
    before = after = tasks = 0.0
    for context, deltas in stream:
        before += float(context.originals.sum(0).double().square().sum())
        after += float(deltas.sum(0).double().square().sum())
        tasks = len(context.tasks)
    return (before / after) ** 0.5 / tasks if after else 0.0


@modifier("lines", first_pass=_intercept)
def lines(deltas: Deltas, context: Context, *, slope: Annotated[float, Field(ge=0)] = 0.5) -> Deltas:
    """Scale block l of L by a + slope · l/(L − 1), and tensors outside the blocks by a = ‖Στ‖ / ‖merged‖ / T.

    Wang et al., LiNeS; the authors choose the slope on val.
    """
    depth = (block_of(context.name) or 0) / max(context.blocks - 1, 1)
    return deltas * (context.summary + slope * depth)


@modifier("svc", matrices=OnMatrices(others="sum"))
def svc(deltas: Matrices, context: Context, *, floor: Annotated[float, Field(gt=0)] = 0.1) -> MergedMatrices:
    """Scale down the singular directions that several tasks share and the merged matrix therefore counts repeatedly.

    When Shared Knowledge Hurts (2026): with merged = Σ sᵣ uᵣ vᵣᵀ, pᵣₜ = ⟨sᵣ vᵣ, uᵣᵀ τₜ⟩ / ‖uᵣᵀ τₜ‖², sᵣ is divided by
    the mean over tasks of max(floor, pᵣₜ). The authors' floor is 0.1 for sum, TIES, DARE and Iso-C, 0.2 for Iso-CTS and
    1 for TSV-M and WUDI.
    """
    merged = total(deltas)
    left, singular, right = leading(merged, min(merged.shape))
    # What follows are inner products, for which float32 is enough.
    left, responses = left.float(), (singular * right).T.float()
    projections = torch.stack([_projection(left.T @ original, responses) for original in context.originals])
    scaled = left / projections.clamp(min=floor).mean(0)
    return (scaled @ responses)[None] if context.only_sum else scaled @ (left.T @ deltas)


def _projection(own: Float[Tensor, "rank columns"], responses: Float[Tensor, "rank columns"]) -> Float[Tensor, " rank"]:
    """Return the coefficient of each row's projection on a task's own."""
    return (own * responses).sum(1) * invert(own.square().sum(1))
