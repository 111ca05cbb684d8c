"""One-colour icons of sixteen everyday things, each drawn by many design teams.

The splits hold different icon sets: ``test`` shows designs by teams that ``train`` and ``val`` do not know.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Int64
from numpy.random import Generator

from pipeline.images.images import LabelledImages
from pipeline.sources.mini import canvas, colours
from pipeline.sources.mini.sources import read_arrays

ICONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("house", ("house", "home")),
    ("calendar", ("calendar",)),
    ("heart", ("heart",)),
    ("envelope", ("envelope", "mail", "email")),
    ("camera", ("camera",)),
    ("lock", ("lock", "locked", "padlock")),
    ("clock", ("clock",)),
    ("cloud", ("cloud",)),
    ("flag", ("flag",)),
    ("bell", ("bell",)),
    ("book", ("book",)),
    ("key", ("key",)),
    ("car", ("car",)),
    ("star", ("star",)),
    ("gift", ("gift", "present")),
    ("umbrella", ("umbrella",)),
)
"""Each class with the words that icon sets use for it."""

CLASSES = tuple(name for name, _ in ICONS)
_TRAIN, _VAL = 0.38, 0.17
_TRAIN_RENDERINGS = 2
_PLACEMENT = canvas.Placement(rotation=8.0, scale=(0.8, 1.05), shift=0.08, shear=0.05, aspect=0.05)


def render(rng: Generator, masks: np.ndarray) -> np.ndarray:
    """Render icons, uint8 ``[n, 32, 32]``, dark on white or, half of them, in two colours. uint8 ``[n, 3, 32, 32]``."""
    n = len(masks)
    placed = canvas.warp(masks[:, None].astype(np.float32) / 255, _PLACEMENT.draw(rng, n))
    _, front, back = colours.draw_pairs(rng, n, distance=0.9)
    plain = rng.random((n, 1)) < 0.5
    front, back = np.where(plain, np.float32(0.1), front), np.where(plain, np.float32(1.0), back)
    return canvas.to_bytes(canvas.noisy(rng, canvas.paint(placed, front, canvas.solid(back)), 0.04))


def parts(rng: Generator, sets: np.ndarray) -> dict[str, Int64[np.ndarray, " icons"]]:
    """Return the positions of the icons of each split, given the name of every icon's set."""
    names = np.unique(sets)
    share = np.empty(len(names))
    share[rng.permutation(len(names))] = (np.arange(len(names)) + 0.5) / len(names)
    position = share[np.searchsorted(names, sets)]
    return {
        "train": np.flatnonzero(position < _TRAIN),
        "val": np.flatnonzero((position >= _TRAIN) & (position < _TRAIN + _VAL)),
        "test": np.flatnonzero(position >= _TRAIN + _VAL),
    }


def splits(sources: Path, rng: Generator) -> dict[str, LabelledImages]:
    """Return the task: icon sets divided among the splits; two renderings of each icon of ``train``.

    Raises:
        ValueError: the source is missing or damaged.
    """
    images, labels, sets = read_arrays(sources / "icons.npz", "images", "labels", "sets")
    out = {}
    for name, members in parts(rng, sets).items():
        icons = np.tile(members, _TRAIN_RENDERINGS if name == "train" else 1)
        out[name] = LabelledImages(render(rng, images[icons]), labels[icons].astype(np.int64))
    return out
