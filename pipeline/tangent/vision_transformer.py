"""f(x; θ₀) and J(x) τ of open_clip's VisionTransformer in one pass, by explicit propagation of (x, dx).

The primal runs without autograd: f is linearised at θ₀, which never changes. Only the tangents are recorded, so that a
training step costs 3 matrix products per linear layer forwards and 2 backwards, where an ordinary step costs 1 and 2.
The last block is propagated for the pooled tokens alone.
"""

from dataclasses import dataclass
from functools import partial

import open_clip.transformer as oc
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from pipeline.tangent import rules
from pipeline.tangent.linearised import Directions, check_directions

_ALL = slice(None)


@dataclass(frozen=True)
class _Dual:
    """An activation and its tangent; ``dx`` is ``None`` while nothing upstream moves."""

    x: Tensor
    dx: Tensor | None

    def __add__(self, other: "_Dual") -> "_Dual":
        if self.dx is None or other.dx is None:
            return _Dual(self.x + other.x, other.dx if self.dx is None else self.dx)
        return _Dual(self.x + other.x, self.dx + other.dx)

    def take(self, tokens: slice) -> "_Dual":
        """Some of the tokens."""
        return _Dual(self.x[:, tokens], None if self.dx is None else self.dx[:, :, tokens])


@dataclass(frozen=True)
class _Block:
    """The layers of a residual attention block, and where their parameters are named."""

    prefix: str
    ln_1: nn.LayerNorm
    attention: nn.MultiheadAttention
    ln_2: nn.LayerNorm
    c_fc: nn.Linear
    activation: nn.GELU | oc.QuickGELU
    c_proj: nn.Linear

    @classmethod
    def of(cls, block: nn.Module, prefix: str) -> "_Block | None":
        """The layers, or ``None`` if the block is of another form."""
        if type(block) is not oc.ResidualAttentionBlock or not isinstance(block.ls_1, nn.Identity):
            return None
        c_fc, activation, c_proj = block.mlp
        if not (isinstance(c_fc, nn.Linear) and isinstance(c_proj, nn.Linear)):
            return None
        if not isinstance(activation, (nn.GELU, oc.QuickGELU)):
            return None
        return cls(prefix, block.ln_1, block.attn, block.ln_2, c_fc, activation, c_proj)


def _blocks(encoder: oc.VisionTransformer) -> list[_Block | None]:
    resblocks = enumerate(encoder.transformer.resblocks)
    return [_Block.of(block, f"transformer.resblocks.{index}.") for index, block in resblocks]


def supports(encoder: nn.Module) -> bool:
    """Whether the encoder is a vision transformer of the form that is propagated here."""
    return (
        type(encoder) is oc.VisionTransformer
        and encoder.attn_pool is None
        and not encoder.final_ln_after_pool
        and encoder.pool_type in ("tok", "avg")
        and isinstance(encoder.ln_pre, nn.LayerNorm)
        and isinstance(encoder.ln_post, nn.LayerNorm)
        and isinstance(encoder.patch_dropout, nn.Identity)
        and len(encoder.transformer.resblocks) > 0
        and None not in _blocks(encoder)
    )


class TangentVisionTransformer:
    """A :class:`.LinearisedEncoder` that propagates values and tangents through the encoder's layers."""

    def __init__(self, encoder: nn.Module) -> None:
        if not (isinstance(encoder, oc.VisionTransformer) and supports(encoder)):
            raise TypeError(f"{type(encoder).__name__} of this configuration has no explicit tangent propagation")
        self.encoder = encoder
        self.blocks = [block for block in _blocks(encoder) if block is not None]
        self.checkpointing = False

    def checkpoint_activations(self) -> None:
        """From now on keep only what enters each block, and propagate through it again in the backward pass."""
        self.checkpointing = True

    def __call__(
        self, images: Float[Tensor, "n 3 height width"], tangents: Directions
    ) -> tuple[Float[Tensor, "n features"], Float[Tensor, "directions n features"]]:
        """See :class:`.LinearisedEncoder`."""
        pooled, projection = self._encode(images, tangents), self.encoder.proj
        with torch.no_grad():
            primal = pooled.x if projection is None else pooled.x @ projection
        return primal, self._project(pooled, tangents)

    def tangent(
        self, images: Float[Tensor, "n 3 height width"], tangents: Directions
    ) -> Float[Tensor, "directions n features"]:
        """See :class:`.LinearisedEncoder`."""
        return self._project(self._encode(images, tangents), tangents)

    def _encode(self, images: Tensor, tangents: Directions) -> _Dual:
        """Propagate (x, dx) to the pooled tokens; every layer's primal is needed by its rule, so all are computed."""
        check_directions(self.encoder, tangents)
        pooled = slice(1) if self.encoder.pool_type == "tok" else slice(1, None)
        state = self._embed(images, tangents)
        for block in self.blocks:
            tokens = pooled if block is self.blocks[-1] else _ALL
            if self.checkpointing:
                residual = partial(_residual, block, tokens=tokens, tangents=tangents)
                state = checkpoint(residual, state, use_reentrant=False, preserve_rng_state=False)
            else:
                state = _residual(block, state, tokens, tangents)
        state = _norm(self.encoder.ln_post, "ln_post.", state, tangents)
        return _Dual(state.x.mean(dim=1), None if state.dx is None else state.dx.mean(dim=2))

    def _project(self, pooled: _Dual, tangents: Directions) -> Tensor:
        dx, dprojection = pooled.dx, tangents.get("proj")
        if self.encoder.proj is not None:
            dweight = None if dprojection is None else dprojection.mT
            dx = rules.linear(pooled.x, dx, self.encoder.proj.detach().T, dweight, None)
        assert dx is not None  # every parameter of the encoder moves its output
        return dx

    def _embed(self, images: Tensor, tangents: Directions) -> _Dual:
        encoder = self.encoder
        with torch.no_grad():
            x = encoder.conv1(images).flatten(2).mT
            x = torch.cat([encoder.class_embedding.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
            x = x + encoder.positional_embedding.to(x.dtype)
        dx, shift = None, tangents.get("positional_embedding")
        dconv, dclass = tangents.get("conv1.weight"), tangents.get("class_embedding")
        if dconv is not None:
            moved = F.conv2d(images, dconv.flatten(0, 1), stride=encoder.conv1.stride)
            patches = moved.unflatten(1, dconv.shape[:2]).movedim(1, 0).flatten(3).mT
            dx = F.pad(patches, (0, 0, 1, 0))
        if dclass is not None:
            first = F.pad(dclass[:, None], (0, 0, 0, x.shape[1] - 1))
            shift = first if shift is None else shift + first
        if shift is not None:
            shift = shift[:, None].expand(-1, len(x), -1, -1)
            dx = shift if dx is None else dx + shift
        return _norm(encoder.ln_pre, "ln_pre.", _Dual(x, dx), tangents)


def _residual(block: _Block, state: _Dual, tokens: slice, tangents: Directions) -> _Dual:
    """The given tokens behind the block."""
    normed = _norm(block.ln_1, f"{block.prefix}ln_1.", state, tangents)
    state = state.take(tokens) + _attend(block, normed, tokens, tangents)
    return state + _mlp(block, _norm(block.ln_2, f"{block.prefix}ln_2.", state, tangents), tangents)


def _attend(block: _Block, state: _Dual, tokens: slice, tangents: Directions) -> _Dual:
    """Attend from the given tokens to all tokens."""
    attention, prefix = block.attention, f"{block.prefix}attn."
    weight = attention.in_proj_weight.detach()
    with torch.no_grad():
        q, k, v = _heads(F.linear(state.x, weight, attention.in_proj_bias), attention.num_heads, tokens)
        p = _attention_weights(q, k)
        mixed = torch.matmul(p.to(v.dtype), v).transpose(1, 2).flatten(2)
        out = F.linear(mixed, attention.out_proj.weight, attention.out_proj.bias)
    dweight, dbias = tangents.get(f"{prefix}in_proj_weight"), tangents.get(f"{prefix}in_proj_bias")
    dprojected = rules.linear(state.x, state.dx, weight, dweight, dbias)
    dmixed = None
    if dprojected is not None:
        dq, dk, dv = _heads(dprojected, attention.num_heads, tokens)
        dmixed = rules.attend(dq, dk, dv, q, k, v, p).transpose(-3, -2).flatten(-2)
    return _Dual(out, _linear(attention.out_proj, f"{prefix}out_proj.", _Dual(mixed, dmixed), tangents))


def _mlp(block: _Block, state: _Dual, tangents: Directions) -> _Dual:
    with torch.no_grad():
        hidden = block.c_fc(state.x)
        active = block.activation(hidden)
        out = block.c_proj(active)
    dhidden = _linear(block.c_fc, f"{block.prefix}mlp.c_fc.", state, tangents)
    dactive = None if dhidden is None else _activate(block.activation, dhidden, hidden)
    return _Dual(out, _linear(block.c_proj, f"{block.prefix}mlp.c_proj.", _Dual(active, dactive), tangents))


def _activate(activation: nn.GELU | oc.QuickGELU, dx: Tensor, x: Tensor) -> Tensor:
    return rules.gelu(dx, x, activation.approximate) if isinstance(activation, nn.GELU) else rules.quick_gelu(dx, x)


def _norm(norm: nn.Module, prefix: str, state: _Dual, tangents: Directions) -> _Dual:
    if not isinstance(norm, nn.LayerNorm):
        raise TypeError(f"{prefix} is a {type(norm).__name__}, not a layer norm")
    with torch.no_grad():
        x = state.x.float() if state.x.dtype in (torch.bfloat16, torch.float16) else state.x
        y, mean, rstd = torch.native_layer_norm(x, list(norm.normalized_shape), norm.weight, norm.bias, norm.eps)
    dweight, dbias = tangents.get(f"{prefix}weight"), tangents.get(f"{prefix}bias")
    dx = None if state.dx is None else state.dx.to(x.dtype)
    return _Dual(y, rules.layer_norm(x, dx, (mean, rstd), norm.weight.detach(), dweight, dbias))


def _linear(layer: nn.Linear, prefix: str, state: _Dual, tangents: Directions) -> Tensor | None:
    dweight, dbias = tangents.get(f"{prefix}weight"), tangents.get(f"{prefix}bias")
    return rules.linear(state.x, state.dx, layer.weight.detach(), dweight, dbias)


def _heads(projected: Tensor, heads: int, tokens: slice) -> list[Tensor]:
    """Split the fused projection into q of the given tokens and k and v of all, with the heads before the tokens."""
    q, k, v = projected.unflatten(-1, (3, heads, -1)).movedim(-3, 0).transpose(-3, -2)
    return [q[..., tokens, :].contiguous(), k.contiguous(), v.contiguous()]


def _attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """softmax(q kᵀ / √d), in float32 at least."""
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.mT)
    return torch.softmax(scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores, dim=-1)
