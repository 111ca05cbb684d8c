"""Images of several copies of one small picture: emoji for the task, shapes for the pre-training corpus."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64
from numpy.random import Generator

from pipeline.images.images import LabelledImages
from pipeline.sources.mini import canvas, emoji

CLASSES = ("one", "two", "three", "four", "five", "six")
_CELLS = 3
_ITEM = 10
_JITTER = 0.05


def small(sprites: Float32[np.ndarray, "n channels size size"]) -> Float32[np.ndarray, "n channels item item"]:
    """Return sprites at the size at which they are counted, averaged over areas."""
    n, channels, size, _ = sprites.shape
    edges = np.linspace(0, size, _ITEM + 1)
    pixels = np.arange(size)
    covered = np.clip(np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels), 0, 1)
    rows = (covered / covered.sum(1, keepdims=True)).astype(np.float32)
    return (rows @ sprites.reshape(-1, size, size) @ rows.T).reshape(n, channels, _ITEM, _ITEM)


def arrange(
    rng: Generator, items: Float32[np.ndarray, "n 4 item item"], counts: Int64[np.ndarray, " n"]
) -> Float32[np.ndarray, "n 4 size size"]:
    """Render ``counts`` copies of each item in distinct cells of a 3 × 3 grid, slightly moved and turned."""
    n = len(items)
    cells = np.argsort(rng.random((n, _CELLS * _CELLS)), axis=1)
    out = np.zeros((n, 4, canvas.SIZE, canvas.SIZE), dtype=np.float32)
    move = canvas.Placement(rotation=15.0, scale=(0.95 * _ITEM / canvas.SIZE, 1.1 * _ITEM / canvas.SIZE), shift=_JITTER)
    for copy in range(int(counts.max())):
        chosen = np.flatnonzero(counts > copy)
        matrices = move.draw(rng, len(chosen))
        cell = cells[chosen, copy]
        centre = (np.stack([cell % _CELLS, cell // _CELLS], 1) - 1) * (2 / _CELLS)
        matrices[:, :, 2] -= (matrices[:, :, :2] @ centre[..., None].astype(np.float32))[..., 0]
        placed = canvas.warp(items[chosen], matrices)
        out[chosen] = placed + out[chosen] * (1 - placed[:, 3:])
    return out


def split(sources: Path, rng: Generator, n: int) -> LabelledImages:
    """Render ``n`` labelled images of the task; no concept of the control task appears in it."""
    bank = emoji.load(sources)
    labels = canvas.balanced_labels(rng, n, len(CLASSES))
    concepts = rng.choice(bank.countable(), n)
    items = small(canvas.premultiplied(bank.twemoji[concepts]))
    placed = arrange(rng, items, labels + 1)
    return LabelledImages(canvas.to_bytes(canvas.on_any_background(rng, placed)), labels)
