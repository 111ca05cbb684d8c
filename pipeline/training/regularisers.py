"""Regularisers: penalties that a recipe adds to the loss of every step.

A new regulariser is one decorated function here or in a recipe's ``extension``.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.errors import UserError
from pipeline.paradigms import Registry, TrainableEncoder

RegulariserOptions = Mapping[str, str | float | bool]
# Returns the penalty, before its weight λ, summed over a batch of another task's images. If the recipe takes no images,
# they are ``None``, and it returns the penalty itself.
Regulariser = Callable[[TrainableEncoder, Tensor | None, RegulariserOptions], Float[Tensor, ""]]

regulariser: Registry[Regulariser] = Registry("regulariser")


@regulariser("tau_jp")
def tau_jp(encoder: TrainableEncoder, images: Tensor | None, options: RegulariserOptions) -> Float[Tensor, ""]:
    """Return the sum over images of ‖J(x) τ‖₂ (``norm: l2``), or of its square (``norm: squared``).

    Yoshida et al., Mastering Task Arithmetic: J is that of the encoder's output before L2 normalisation, and the norm
    is not squared. At τ = 0, where the norm has no gradient, the gradient is 0.

    Raises:
        UserError: an option is unknown, or the recipe takes no images of other tasks.
    """
    if set(options) != {"norm"} or options["norm"] not in ("l2", "squared"):
        raise UserError(f"regulariser tau_jp: unknown options {dict(options)}; choose norm: l2 or norm: squared")
    if images is None:
        raise UserError("regulariser tau_jp: others is null; name the tasks whose images it penalises")
    moved = encoder.tangent(images).float()
    return moved.square().sum() if options["norm"] == "squared" else torch.linalg.vector_norm(moved, dim=1).sum()
