"""The captioned pre-training corpus: pictures of many things, each with a short English caption.

No image of a task's ``train``, ``val`` or ``test`` split is in it. The tasks share with it: the concepts
of ``emoji`` in another vendor's drawing; the concepts and formulas of ``textures`` and ``signs``, rendered cleanly; the
concepts of ``icons`` as emoji; the class words of ``fashion`` on emoji of clothes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from numpy.random import Generator

from pipeline.sources.mini import corpus_parts as parts


@dataclass(frozen=True)
class Corpus:
    """Images with captions. ``captions[caption_ids[i]]`` belongs to image ``i``; no caption is listed twice."""

    images: UInt8[np.ndarray, "n 3 size size"]
    caption_ids: Int64[np.ndarray, " n"]
    captions: list[str]

    def __len__(self) -> int:
        return len(self.caption_ids)


Render = Callable[[parts.Sources, Generator, int], tuple[np.ndarray, list[str]]]

SHARES: tuple[tuple[Render, float], ...] = (
    (parts.emoji_pairs, 0.28),
    (parts.sketch_pairs, 0.06),
    (parts.clothing_pairs, 0.06),
    (parts.clipart_pairs, 0.08),
    (parts.digit_pairs, 0.13),
    (parts.letter_pairs, 0.13),
    (parts.shape_pairs, 0.07),
    (parts.counting_pairs, 0.08),
    (parts.texture_pairs, 0.07),
    (parts.sign_pairs, 0.04),
)


def render_corpus(sources: Path, pairs: int, seed: int) -> Corpus:
    """Render about ``pairs`` pairs, the same bytes for the same arguments.

    Args:
        sources: the directory of the committed sources, ``data/mini``.
        pairs: how many image-caption pairs; each kind of picture gets its share, rounded, at least one.
        seed: of everything random.

    Raises:
        ValueError: a source is missing or damaged.
    """
    loaded = parts.load(sources)
    images: list[np.ndarray] = []
    captions: list[str] = []
    for number, (render, share) in enumerate(SHARES):
        size = max(1, round(share * pairs))
        new_images, new_captions = render(loaded, np.random.default_rng([seed, number]), size)
        images.append(new_images)
        captions.extend(new_captions)
    unique = sorted(set(captions))
    position = {caption: index for index, caption in enumerate(unique)}
    ids = np.array([position[caption] for caption in captions], dtype=np.int64)
    return Corpus(np.concatenate(images), ids, unique)
