"""The linearised encoder: f(x; θ₀) and J(x) τ."""

from torch import nn

from pipeline.tangent.generic import GenericTangent
from pipeline.tangent.vision_transformer import TangentVisionTransformer, supports

__all__ = ["GenericTangent", "TangentVisionTransformer", "linearise", "supports"]


def linearise(encoder: nn.Module) -> TangentVisionTransformer | GenericTangent:
    """The explicit propagation for open_clip's vision transformers, ``torch.func.jvp`` for every other encoder."""
    return TangentVisionTransformer(encoder) if supports(encoder) else GenericTangent(encoder)
