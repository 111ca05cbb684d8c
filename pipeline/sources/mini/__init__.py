"""The mini suite: eight small tasks and a control task, made from the committed sources under ``data/mini/``."""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.random import Generator

from pipeline.images.images import LabelledImages
from pipeline.sources.mini import clipart, counting, emoji, icons, real, shapes, signs, textures

__all__ = ["SIZES", "TASKS", "materialise"]

Splits = dict[str, LabelledImages]

SIZES = {"train": 2000, "val": 500, "test": 2000}
"""Images per split of the rendered tasks."""


def _rendered(split: Callable[[Generator, int], LabelledImages], rng: Generator) -> Splits:
    return {name: split(rng, size) for name, size in SIZES.items()}


def _emoji(sources: Path, rng: Generator) -> Splits:
    bank = emoji.load(sources)
    return _rendered(lambda rng, n: emoji.split(bank, rng, n), rng)


TASKS: dict[str, Callable[[Path, Generator], Splits]] = {
    "clipart": clipart.splits,
    "counting": lambda sources, rng: _rendered(lambda rng, n: counting.split(sources, rng, n), rng),
    "emoji": _emoji,
    "fashion": lambda sources, rng: real.fashion(sources),
    "icons": icons.splits,
    "optdigits": lambda sources, rng: real.optdigits(sources),
    "shapes": lambda sources, rng: _rendered(shapes.split, rng),
    "signs": lambda sources, rng: _rendered(lambda rng, n: signs.split(sources, rng, n), rng),
    "textures": lambda sources, rng: _rendered(textures.split, rng),
}


def materialise(task: str, sources: Path) -> Splits:
    """Return a task's ``train``, ``val`` and ``test``, 32 × 32 RGB, the same bytes on every call.

    Args:
        task: the name of a mini task.
        sources: the directory of the committed sources, ``data/mini``.

    Raises:
        ValueError: the task is unknown, or its source is missing or damaged.
    """
    if task not in TASKS:
        raise ValueError(f"unknown mini task {task!r}; choose from {', '.join(TASKS)}")
    return TASKS[task](sources, np.random.default_rng(zlib.crc32(task.encode())))
