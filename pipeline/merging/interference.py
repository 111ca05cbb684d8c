"""Methods that make the merged vector agree with each task vector where that one acts.

Cheng et al., Whoever Started the Interference Should End It (WUDI): a task vector's rows span the inputs of its layer,
so D should equal τₜ on them: minimise Σ ‖(D − τₜ) τₜᵀ‖² / ‖τₜ‖².
"""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pipeline.merging.context import Context
from pipeline.merging.matrices import OnMatrices
from pipeline.merging.registry import merging
from pipeline.merging.spectral import Matrices, MergedMatrices, invert, total


@merging("wudi", matrices=OnMatrices(matrices="blocks"))
def wudi(deltas: Matrices, context: Context, *, damping: Annotated[float, Field(gt=0)] = 1e-8) -> MergedMatrices:
    """WUDI's minimum: Σ cₜ τₜ τₜᵀ τₜ (Σ cₜ τₜᵀ τₜ + damping · 1)⁻¹, cₜ = 1/‖τₜ‖²."""
    targets, gram = _normal_equations(deltas.double())
    if context.only_sum:
        targets = targets.sum(0, keepdim=True)
    gram.diagonal().add_(damping)
    return torch.linalg.solve(gram, targets.flatten(0, 1).T).T.unflatten(0, targets.shape[:2])


@merging("wudi_steps", matrices=OnMatrices(matrices="blocks", others="zero"))
def wudi_steps(
    deltas: Matrices,
    context: Context,
    *,
    steps: Annotated[int, Field(ge=0)] = 300,
    lr: Annotated[float, Field(gt=0)] = 1e-5,
) -> Matrices:
    """WUDI as its authors run it: some steps of Adam from the sum, in float32. Each task takes 1/T of what they change.

    So few small steps do not reach the minimum, and do better than it.
    """
    targets, gram = _normal_equations(deltas.double())
    distance, gram = (total(deltas) @ gram - targets.sum(0)).float(), gram.float()
    change = torch.zeros_like(distance)
    optimiser = torch.optim.Adam([change], lr=lr)
    for _ in range(steps):
        change.grad = 2 * (change @ gram + distance)
        optimiser.step()
    return deltas + change / len(deltas)


def _normal_equations(deltas: Matrices) -> tuple[Matrices, Float[Tensor, "columns columns"]]:
    """Return cₜ τₜ τₜᵀ τₜ of each task, and Σ cₜ τₜᵀ τₜ; cₜ = 1/‖τₜ‖², and 0 for a task that does not move."""
    weights = invert(deltas.square().sum((1, 2)))
    gram = torch.zeros(deltas.shape[2], deltas.shape[2], dtype=deltas.dtype, device=deltas.device)
    targets = torch.empty_like(deltas)
    for weight, delta, target in zip(weights, deltas, targets, strict=True):  # one Gram matrix in memory at a time
        own = weight * delta.T @ delta
        gram += own
        torch.matmul(delta, own, out=target)
    return targets, gram
