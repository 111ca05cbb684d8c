"""Named colours, and pairs of them that can be told apart."""

import numpy as np
from jaxtyping import Float32, Int64
from numpy.random import Generator

NAMES = ("red", "green", "blue", "yellow", "orange", "purple", "pink", "brown", "black", "white", "gray", "cyan")
_RGB = np.array(
    [
        [220, 30, 30],
        [30, 160, 50],
        [40, 70, 220],
        [240, 220, 40],
        [245, 140, 20],
        [130, 50, 170],
        [250, 140, 190],
        [125, 75, 35],
        [15, 15, 15],
        [245, 245, 245],
        [128, 128, 128],
        [50, 205, 220],
    ]
)
_JITTER = 25


def draw(rng: Generator, indices: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n 3"]:
    """Return a shade of each named colour, RGB in 0 … 1."""
    shade = _RGB[indices] + rng.uniform(-_JITTER, _JITTER, (len(indices), 3))
    return (np.clip(shade, 0, 255) / 255).astype(np.float32)


def draw_pairs(
    rng: Generator, n: int, distance: float
) -> tuple[Int64[np.ndarray, "n 2"], Float32[np.ndarray, "n 3"], Float32[np.ndarray, "n 3"]]:
    """Return names and shades of ``n`` pairs of colours whose RGB values differ by more than ``distance`` in sum."""
    pairs = np.zeros((n, 2), dtype=np.int64)
    first, second = np.zeros((n, 3), dtype=np.float32), np.zeros((n, 3), dtype=np.float32)
    missing = np.arange(n)
    while len(missing):
        pairs[missing] = rng.integers(0, len(NAMES), (len(missing), 2))
        first[missing] = draw(rng, pairs[missing, 0])
        second[missing] = draw(rng, pairs[missing, 1])
        alike = (np.abs(first - second).sum(1) <= distance) | (pairs[:, 0] == pairs[:, 1])
        missing = np.flatnonzero(alike)
    return pairs, first, second
