"""Emoji of two vendors, and the control task made from one of them.

For the control task's concepts the pre-training corpus sees only the Noto drawing; the task shows the Twemoji drawing.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from numpy.random import Generator

from pipeline.images.images import LabelledImages
from pipeline.sources.mini import canvas
from pipeline.sources.mini.sources import read_arrays

# fmt: off
CONTROL_CONCEPTS = (
    "airplane arriving", "amphora", "bagel", "bear face", "beetle", "brick", "briefcase", "bucket", "bus",
    "cactus", "canned food", "chains", "cheering megaphone", "cheese wedge", "cherry blossom", "chipmunk",
    "chopsticks", "christmas tree", "compass", "credit card", "crocodile", "croissant", "crutch",
    "crystal ball", "delivery truck", "diya lamp", "dolphin", "duck", "egg", "evergreen tree", "falafel",
    "film frames", "flying disc", "flying saucer", "fox face", "framed picture", "french fries",
    "frog face", "fuel pump", "goal net", "goose", "hamburger", "hamster face", "hatching chick",
    "headstone", "helicopter", "horse face", "hospital", "identification card", "izakaya lantern", "koala",
    "linked paperclips", "lotus", "mammoth", "maple leaf", "microbe", "microscope", "monkey face",
    "moon cake", "mountain", "octopus", "oncoming taxi", "outbox tray", "owl", "package", "paperclip",
    "parachute", "paw prints", "pear", "pen", "penguin", "playground slide", "potato", "poultry leg",
    "printer", "rabbit", "receipt", "reminder ribbon", "roller skate", "satellite", "satellite antenna",
    "school", "seal", "ship", "shopping trolley", "spaghetti", "spider", "sunflower", "sunrise", "swan",
    "taco", "tent", "tiger", "tokyo tower", "tractor", "violin", "volcano", "watermelon", "white flower",
    "wine glass",
)
# fmt: on


@dataclass(frozen=True)
class EmojiBank:
    """Concepts that both vendors draw. ``noto``, ``twemoji``: uint8 RGBA ``[n, 32, 32, 4]``."""

    names: list[str]
    categories: list[str]
    subcategories: list[str]
    noto: np.ndarray
    twemoji: np.ndarray

    def positions(self, names: tuple[str, ...]) -> Int64[np.ndarray, " names"]:
        """Return the positions of the named concepts."""
        return np.array([self.names.index(name) for name in names], dtype=np.int64)

    def countable(self) -> Int64[np.ndarray, " concepts"]:
        """Return the food and animals outside the control task, which the task ``counting`` uses."""
        wanted = {"Animals & Nature", "Food & Drink"}
        return np.array(
            [
                position
                for position, (name, category) in enumerate(zip(self.names, self.categories, strict=True))
                if category in wanted and name not in CONTROL_CONCEPTS
            ],
            dtype=np.int64,
        )


def load(sources: Path) -> EmojiBank:
    """Read the bank.

    Raises:
        ValueError: the source is missing or damaged.
    """
    keys = ("names", "categories", "subcategories", "noto", "twemoji")
    names, categories, subcategories, noto, twemoji = read_arrays(sources / "emoji.npz", *keys)
    return EmojiBank(names.tolist(), categories.tolist(), subcategories.tolist(), noto, twemoji)


def split(bank: EmojiBank, rng: Generator, n: int) -> LabelledImages:
    """Return ``n`` renderings of the 100 control drawings."""
    labels = canvas.balanced_labels(rng, n, len(CONTROL_CONCEPTS))
    sprites = canvas.premultiplied(bank.twemoji[bank.positions(CONTROL_CONCEPTS)[labels]])
    placed = canvas.warp(sprites, canvas.Placement().draw(rng, n))
    return LabelledImages(canvas.to_bytes(canvas.on_any_background(rng, placed)), labels)
