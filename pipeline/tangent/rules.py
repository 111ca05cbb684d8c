"""Tangent rules: how a change of a layer's input and weights changes its output, to first order.

Every rule is linear in its tangents, and its coefficients are primal quantities: that is all the backward pass keeps.
Activations are ``[n, tokens, width]``, their tangents ``[directions, n, tokens, width]``, and the tangent of a weight
has the same leading ``directions``. ``None`` is a tangent of zero and costs nothing.

The Jacobians of layer norm, softmax and the activations are symmetric (up to the affine part), so the kernel of the
ordinary backward pass serves as the rule, and serves once more as the rule's own backward pass.
"""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

aten = torch.ops.aten


def linear(
    x: Float[Tensor, "*rows inputs"],
    dx: Float[Tensor, "directions *rows inputs"] | None,
    weight: Float[Tensor, "outputs inputs"],
    dweight: Float[Tensor, "directions outputs inputs"] | None,
    dbias: Float[Tensor, "directions outputs"] | None,
) -> Float[Tensor, "directions *rows outputs"] | None:
    """d(x Wᵀ + b) = dx Wᵀ + x dWᵀ + db."""
    dy = None if dx is None else F.linear(dx, weight)
    if dweight is not None:
        directions, outputs, inputs = dweight.shape
        # One product for all directions: their weights stacked as one with directions × outputs rows.
        stacked = F.linear(x, dweight.reshape(directions * outputs, inputs))
        product = stacked.unflatten(-1, (directions, outputs)).movedim(-2, 0)
        dy = product if dy is None else dy + product
    return add_vector(dy, dbias, x.shape[:-1])


def add_vector(
    dy: Float[Tensor, "directions *rows width"] | None,
    dvector: Float[Tensor, "directions width"] | None,
    rows: torch.Size,
) -> Float[Tensor, "directions *rows width"] | None:
    """dy + db, the tangent of adding a vector to every row."""
    if dvector is None:
        return dy
    shift = dvector.reshape(dvector.shape[0], *(1 for _ in rows), -1)
    return shift.expand(-1, *rows, -1) if dy is None else dy + shift


def layer_norm(
    x: Float[Tensor, "*rows width"],
    dx: Float[Tensor, "directions *rows width"] | None,
    statistics: tuple[Tensor, Tensor],
    weight: Float[Tensor, " width"],
    dweight: Float[Tensor, "directions width"] | None,
    dbias: Float[Tensor, "directions width"] | None,
) -> Float[Tensor, "directions *rows width"] | None:
    """d(γ x̂ + β) = γ dx̂ + x̂ dγ + dβ, with dx̂ = (dx − mean(dx) − x̂ mean(x̂ dx)) / σ.

    ``statistics`` are the mean and 1/σ of every row, as ``torch.native_layer_norm`` returns them.
    """
    dy = None if dx is None else _apply(_Standardise, dx, x, *statistics) * weight
    if dweight is not None:
        mean, rstd = statistics
        scaled = ((x - mean) * rstd) * dweight.reshape(dweight.shape[0], *(1 for _ in x.shape[:-1]), -1)
        dy = scaled if dy is None else dy + scaled
    return add_vector(dy, dbias, x.shape[:-1])


def _apply(function: type[torch.autograd.Function], *tensors: Tensor) -> Tensor:
    return cast(Tensor, function.apply(*tensors))


class _Standardise(torch.autograd.Function):
    """dx ↦ dx̂, by the kernel of layer norm's backward pass: the Jacobian of x ↦ x̂ is symmetric."""

    @staticmethod
    def forward(ctx: Any, dx: Tensor, x: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
        ctx.save_for_backward(x, mean, rstd)
        return _standardise(dx, x, mean, rstd)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _standardise(*gradients, *ctx.saved_tensors), None, None, None


def _standardise(dx: Tensor, x: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
    directions = [
        aten.native_layer_norm_backward(d, x, x.shape[-1:], mean, rstd, None, None, [True, False, False])[0]
        for d in dx.contiguous()
    ]
    return directions[0][None] if len(directions) == 1 else torch.stack(directions)


def gelu(dx: Tensor, x: Tensor) -> Tensor:
    """dx ↦ gelu′(x) dx."""
    return _apply(_Gelu, dx, x)


class _Gelu(torch.autograd.Function):
    """The kernel of GELU's backward pass, both ways."""

    @staticmethod
    def forward(ctx: Any, dx: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return aten.gelu_backward(dx, x.expand_as(dx))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        return aten.gelu_backward(gradients[0], x.expand_as(gradients[0])), None


def quick_gelu(dx: Tensor, x: Tensor) -> Tensor:
    """dx ↦ d(x σ(1.702 x)) = (s + 1.702 x s (1 − s)) dx with s = σ(1.702 x)."""
    s = torch.sigmoid(1.702 * x)
    return dx * (s * (1 + 1.702 * x * (1 - s)))


def attend(dq: Tensor, dk: Tensor, dv: Tensor, q: Tensor, k: Tensor, v: Tensor, p: Tensor) -> Tensor:
    """dO = dP v + P dv with dP = softmax′(dS) and dS = (dq kᵀ + q dkᵀ) / √d; the heads are part of the rows.

    ``p`` are the attention weights P; softmax′ = diag(P) − P Pᵀ is symmetric.
    """
    return _apply(_Attend, dq, dk, dv, q, k, v, p)


class _Attend(torch.autograd.Function):
    """Keeps q, k, v and P, and no tangent."""

    @staticmethod
    def forward(ctx: Any, dq: Tensor, dk: Tensor, dv: Tensor, q: Tensor, k: Tensor, v: Tensor, p: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v, p)
        scale = q.shape[-1] ** -0.5
        ds = torch.matmul(dq, k.mT).add_(torch.matmul(q, dk.mT)).mul_(scale)
        dp = _softmax_rule(ds, p)
        return torch.matmul(dp.to(v.dtype), v).add_(torch.matmul(p.to(dv.dtype), dv))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (q, k, v, p) = gradients, ctx.saved_tensors
        scale = q.shape[-1] ** -0.5
        gds = _softmax_rule(torch.matmul(gradient, v.mT), p).mul_(scale).to(k.dtype)
        gdv = torch.matmul(p.mT.to(gradient.dtype), gradient)
        return torch.matmul(gds, k), torch.matmul(gds.mT, q), gdv, None, None, None, None


def _softmax_rule(ds: Tensor, p: Tensor) -> Tensor:
    """P (dS − Σ P dS), in the precision of P."""
    return aten._softmax_backward_data(ds.to(p.dtype), p.expand_as(ds), -1, p.dtype)
