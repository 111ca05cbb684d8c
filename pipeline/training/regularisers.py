"""Regularisers: penalties that a recipe adds to the loss of every step.

A new regulariser is one decorated function here or in a recipe's ``extension``.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.errors import UserError
from pipeline.paradigms import Registry, TrainableEncoder

Options = Mapping[str, str | float | bool]
# The penalty on a batch of another task's images, before its weight λ, as a sum over the images; ``None`` and the
# penalty itself where the recipe asks for no images.
Regulariser = Callable[[TrainableEncoder, Tensor | None, Options], Float[Tensor, ""]]

regulariser: Registry[Regulariser] = Registry("regulariser")


@regulariser("tau_jp")
def tau_jp(encoder: TrainableEncoder, images: Tensor | None, options: Options) -> Float[Tensor, ""]:
    """Σ over images of ‖J(x) τ‖₂ (``norm: l2``), or of its square (``norm: squared``).

    Yoshida et al., Mastering Task Arithmetic: the norm is that of the encoder's output before L2 normalisation, and
    is not squared. At τ = 0, where the norm has no gradient, the gradient is taken to be 0.

    Raises:
        UserError: an option is unknown, or the recipe gives no images of other tasks.
    """
    if set(options) != {"norm"} or options["norm"] not in ("l2", "squared"):
        raise UserError(f"regulariser tau_jp: options are {dict(options)}; legal are norm: l2 and norm: squared")
    if images is None:
        raise UserError("regulariser tau_jp: others is null; say whose images it penalises")
    moved = encoder.tangent(images).float()
    return moved.square().sum() if options["norm"] == "squared" else torch.linalg.vector_norm(moved, dim=1).sum()
