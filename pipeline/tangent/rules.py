"""Tangent rules: how a change of a layer's input and weights changes its output, to first order.

Every rule is linear in its tangents, and its coefficients are primal quantities: that is all the backward pass keeps.
Activations are ``[n, tokens, width]``, their tangents ``[directions, n, tokens, width]``, and the tangent of a weight
has the same leading ``directions``. ``None`` is a tangent of zero and costs nothing.

The Jacobians of layer norm, softmax and the activations are symmetric (up to the affine part), so the kernel of the
ordinary backward pass serves as the rule, and serves once more as the rule's own backward pass.
"""

from collections.abc import Callable
from functools import partial
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
    if dweight is None:
        return add_vector(dy, dbias, x.shape[:-1])
    # One product for all directions: their weights stacked as one with directions × outputs rows.
    stacked = F.linear(x, dweight.flatten(0, 1), None if dbias is None else dbias.flatten())
    moved = stacked.unflatten(-1, dweight.shape[:2]).movedim(-2, 0)
    return moved if dy is None else dy + moved


def add_vector(
    dy: Float[Tensor, "directions *rows width"] | None,
    dvector: Float[Tensor, "directions width"] | None,
    rows: torch.Size,
) -> Float[Tensor, "directions *rows width"] | None:
    """dy + db, the tangent of adding a vector to every row."""
    if dvector is None:
        return dy
    shift = _to_rows(dvector, len(rows))
    return shift.expand(-1, *rows, -1) if dy is None else dy + shift.to(dy.dtype)


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
    if dx is None and dweight is None:
        return add_vector(None, dbias, x.shape[:-1])
    return _apply(_LayerNorm, dx, dweight, dbias, x, *statistics, weight)


class _LayerNorm(torch.autograd.Function):
    """dx ↦ dx̂ by the kernel of layer norm's backward pass: the Jacobian of x ↦ x̂ is symmetric.

    The gradients with respect to (dx, dγ, dβ) are those of an ordinary layer norm with respect to (x, γ, β).
    """

    @staticmethod
    def forward(
        ctx: Any,
        dx: Tensor | None,
        dweight: Tensor | None,
        dbias: Tensor | None,
        x: Tensor,
        mean: Tensor,
        rstd: Tensor,
        weight: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(x, mean, rstd, weight)
        rows = x.dim() - 1
        dy = None
        if dx is not None:
            (dy,) = _layer_norm_backward(dx, x, mean, rstd, None, [True, False, False])
            dy = dy.mul_(weight)
        if dweight is not None:
            # x̂ is made anew: keeping it would cost as much memory as x.
            scaled = (x - mean).mul_(rstd) * _to_rows(dweight, rows)
            dy = scaled if dy is None else dy.add_(scaled)
        assert dy is not None
        return dy if dbias is None else dy.add_(_to_rows(dbias, rows))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd, weight = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:3])
        found = iter(_layer_norm_backward(gradients[0], x, mean, rstd, weight, wanted))
        return *(next(found) if want else None for want in wanted), None, None, None, None


def _layer_norm_backward(
    gradient: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, wanted: list[bool]
) -> list[Tensor]:
    """What is wanted of the gradients with respect to (x, γ, β), for every direction."""
    each = [
        aten.native_layer_norm_backward(g, x, x.shape[-1:], mean, rstd, weight, weight, wanted)
        for g in gradient.contiguous()
    ]
    found = [[tensor for tensor in tensors if tensor is not None] for tensors in each]
    # Without a copy where there is only one direction.
    return [part[0][None] if len(part) == 1 else torch.stack(part) for part in zip(*found, strict=True)]


def _to_rows(vector: Float[Tensor, "directions width"], rows: int) -> Tensor:
    """The vectors with as many dimensions of size 1 in between as their activations have rows."""
    return vector.reshape(len(vector), *[1] * rows, -1)


def _apply(function: type[torch.autograd.Function], *arguments: object) -> Tensor:
    return cast(Tensor, function.apply(*arguments))


def gelu(dx: Tensor, x: Tensor, approximate: str) -> Tensor:
    """dx ↦ gelu′(x) dx, of either form of GELU."""
    return _apply(_Activation, dx, x, partial(aten.gelu_backward, approximate=approximate))


def quick_gelu(dx: Tensor, x: Tensor) -> Tensor:
    """dx ↦ d(x σ(1.702 x)) = silu′(1.702 x) dx."""
    return _apply(_Activation, dx, 1.702 * x, aten.silu_backward)


class _Activation(torch.autograd.Function):
    """The kernel of the activation's backward pass, both ways."""

    @staticmethod
    def forward(ctx: Any, dx: Tensor, x: Tensor, kernel: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.kernel = kernel
        return kernel(dx, x.expand_as(dx))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        return ctx.kernel(gradients[0], x.expand_as(gradients[0])), None, None


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
