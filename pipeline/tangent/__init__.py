"""The linearised encoder: f(x; θ₀) and the Jacobian-vector product J(x) τ."""

import logging

from torch import nn

from pipeline.tangent.generic import GenericTangent, plain_attention
from pipeline.tangent.linearised import Displacement, LinearisedEncoder
from pipeline.tangent.vision_transformer import TangentVisionTransformer, supports

__all__ = [
    "Displacement",
    "GenericTangent",
    "LinearisedEncoder",
    "TangentVisionTransformer",
    "linearise",
    "plain_attention",
    "supports",
]

logger = logging.getLogger(__name__)


def linearise(encoder: nn.Module) -> LinearisedEncoder:
    """Linearise an encoder: explicitly for open_clip's vision transformers, by ``torch.func.jvp`` for all others."""
    if supports(encoder):
        return TangentVisionTransformer(encoder)
    logger.info("%s has no explicit tangent propagation; using torch.func.jvp, which is slower", type(encoder).__name__)
    return GenericTangent(encoder)
