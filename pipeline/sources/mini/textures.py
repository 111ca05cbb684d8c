"""Ten regular patterns, drawn from formulas.

The task and the pre-training corpus share these formulas: the task's concepts are seen in pre-training, its renderings
(more or fewer cycles, less contrast, noise) are not.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64
from numpy.random import Generator

from pipeline.images.images import LabelledImages
from pipeline.sources.mini import canvas, colours

CLASSES = (
    "horizontal stripes",
    "vertical stripes",
    "diagonal stripes",
    "checkerboard",
    "polka dots",
    "grid lines",
    "zigzag",
    "concentric rings",
    "bricks",
    "speckled noise",
)


@dataclass(frozen=True)
class PatternStyle:
    """Parameters of a pattern: cycles over the image (range), least colour distance, deviation of the noise."""

    cycles: tuple[float, float]
    distance: float
    noise: float


CLEAN = PatternStyle(cycles=(3.0, 5.0), distance=0.9, noise=0.0)
TASK = PatternStyle(cycles=(2.0, 7.0), distance=0.45, noise=0.1)

Field = np.ndarray
_FINE = 2 * canvas.SIZE


def _triangle(t: Field) -> Field:
    return np.abs((t % 1) * 2 - 1)


def _bricks(x: Field, y: Field) -> Field:
    row = np.floor(y)
    return ((y % 1) < 0.2) | (((x / 2 + 0.5 * (row % 2)) % 1) < 0.1)


def _rings(x: Field, y: Field) -> Field:
    return (np.hypot(x, y) % 1) < 0.5


# Coordinates count cycles; rings are centred where both are zero.
_PATTERNS: tuple[Callable[[Field, Field], Field], ...] = (
    lambda x, y: (y % 1) < 0.5,
    lambda x, y: (x % 1) < 0.5,
    lambda x, y: ((x + y) * np.sqrt(0.5) % 1) < 0.5,
    lambda x, y: (np.floor(2 * x) + np.floor(2 * y)) % 2 < 0.5,
    lambda x, y: np.hypot(x % 1 - 0.5, y % 1 - 0.5) < 0.31,
    lambda x, y: ((x % 1) < 0.2) | ((y % 1) < 0.2),
    lambda x, y: ((y + 0.6 * _triangle(x)) % 1) < 0.5,
    _rings,
    _bricks,
)


def _pattern(rng: Generator, label: int, look: PatternStyle) -> Float32[np.ndarray, "size size"]:
    """Return the share of a pattern's first colour, averaged over 2 × 2 points per pixel."""
    if CLASSES[label] == "speckled noise":
        grain = canvas.enlarge(rng.normal(size=(1, 1, 16, 16)).astype(np.float32))[0, 0]
        return (grain > 0.25).astype(np.float32)
    cycles, angle = rng.uniform(*look.cycles), np.deg2rad(rng.uniform(-6, 6))
    if CLASSES[label] == "diagonal stripes" and rng.random() < 0.5:
        angle += np.pi / 2
    axis = (np.arange(_FINE) + 0.5) / _FINE - 0.5
    x, y = np.meshgrid(axis, axis)
    x, y = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
    shift = rng.uniform(-0.15, 0.15, 2) * cycles if _PATTERNS[label] is _rings else rng.random(2) * 2
    mask = _PATTERNS[label](cycles * x + shift[0], cycles * y + shift[1]).astype(np.float32)
    return mask.reshape(canvas.SIZE, 2, canvas.SIZE, 2).mean((1, 3))


def render(rng: Generator, labels: Int64[np.ndarray, " n"], look: PatternStyle) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 ``[n, 3, 32, 32]`` and the positions of their two colours in ``colours.NAMES`` ``[n, 2]``."""
    n = len(labels)
    masks = np.stack([_pattern(rng, int(label), look) for label in labels])[:, None]
    pairs, front, back = colours.draw_pairs(rng, n, look.distance)
    painted = canvas.paint(masks, front, canvas.solid(back))
    return canvas.to_bytes(canvas.noisy(rng, painted, look.noise)), pairs


def split(rng: Generator, n: int) -> LabelledImages:
    """Render ``n`` labelled images of the task."""
    labels = canvas.balanced_labels(rng, n, len(CLASSES))
    return LabelledImages(render(rng, labels, TASK)[0], labels)
