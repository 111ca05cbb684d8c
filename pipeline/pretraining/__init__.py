"""mini-clip: a CLIP of 1.8 million parameters for 32 × 32 images, small enough to pre-train on a laptop.

The configuration ``ViT-mini-8.json`` is read by open_clip. ``bpe_4096.txt.gz`` holds the first 3,582 merges of
open_clip's own vocabulary (MIT), with which its tokenizer has 4,096 tokens.
"""

from pathlib import Path

import open_clip
from torch import nn

ARCHITECTURE = "ViT-mini-8"
MEAN, STD = 0.5, 0.25
"""Normalisation of RGB in 0 … 1, the same for all channels."""

_ARCHITECTURES = Path(__file__).parents[1] / "definitions" / "models" / "architectures"


def build() -> tuple[nn.Module, open_clip.SimpleTokenizer]:
    """The model with random weights from torch's generator, in train mode, and its tokenizer."""
    open_clip.add_model_config(_ARCHITECTURES)
    model = open_clip.create_model(ARCHITECTURE, load_weights=False).train()
    context = model.get_parameter("positional_embedding").shape[0]
    return model, open_clip.SimpleTokenizer(str(_ARCHITECTURES / "bpe_4096.txt.gz"), context_length=context)
