"""mini-clip: a CLIP of 1.8 million parameters for 32 × 32 images, small enough to pre-train on a laptop.

The configuration ``ViT-mini-8.json`` is read by open_clip. ``bpe_4096.txt.gz`` holds the first 3,582 merges of
open_clip's own vocabulary (MIT), with which its tokenizer has 4,096 tokens.
"""

from typing import cast

import open_clip
from torch import nn

from pipeline.models import load_model_definition
from pipeline.models.encoders import build_clip
from pipeline.models.heads import tokenizer

MEAN, STD = 0.5, 0.25
"""Normalisation of RGB in 0 … 1, the same for all channels."""


def build() -> tuple[nn.Module, open_clip.SimpleTokenizer]:
    """Return the model in train mode, with random weights from torch's generator, and its tokenizer."""
    definition = load_model_definition("mini-clip")
    return build_clip(definition).train(), cast(open_clip.SimpleTokenizer, tokenizer(definition))
