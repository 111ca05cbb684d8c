"""Open Clip Art drawings: eight kinds of things for the task, everything else for the pre-training corpus.

A drawing is in one place only: pre-training, ``train``, ``val`` or ``test``. Near-duplicates were removed over all of
them when the source was made (see :mod:`pipeline.sources.mini.near_duplicates`).
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from numpy.random import Generator

from pipeline.images.images import LabelledImages
from pipeline.sources.mini import canvas
from pipeline.sources.mini.sources import read_arrays

CLASSES = ("animal", "food", "flag", "plant", "vehicle", "building", "tool", "computer hardware")
_FOLDERS = {
    "animals": "animal",
    "food": "food",
    "signs_and_symbols/flags": "flag",
    "plants": "plant",
    "transportation": "vehicle",
    "buildings": "building",
    "tools": "tool",
    "computer/hardware": "computer hardware",
}
_NOT_OF_THE_CLASS = re.compile(
    r"transportation/(aiga-symbols|roadsigns)|buildings/furniture|tools/(weapons|toys)|animals/fantasy"
)
_MOST_PER_CLASS = 240
_PRE_TRAINING, _TRAIN, _VAL = 0.12, 0.4, 0.13
_TRAIN_RENDERINGS = 2
_PLACEMENT = canvas.Placement(rotation=10.0, scale=(0.8, 1.0), shift=0.1)


@dataclass(frozen=True)
class ClipArt:
    """images: uint8 RGBA ``[n, 32, 32, 4]``; paths: folder and file name of each, without suffix."""

    images: np.ndarray
    paths: list[str]

    def label(self, position: int) -> int:
        """Return the task's class of a drawing, −1 for none."""
        path = self.paths[position]
        if _NOT_OF_THE_CLASS.match(path):
            return -1
        for folder, name in _FOLDERS.items():
            if path.startswith(f"{folder}/"):
                return CLASSES.index(name)
        return -1

    def parts(self) -> dict[str, Int64[np.ndarray, " drawings"]]:
        """Return the drawings of ``pre-training``, ``train``, ``val`` and ``test``: disjoint and fixed."""
        labels = np.array([self.label(position) for position in range(len(self.paths))])
        rng = np.random.default_rng(20)
        parts: dict[str, list[np.ndarray]] = {"pre-training": [], "train": [], "val": [], "test": []}
        parts["pre-training"].append(np.flatnonzero(labels < 0))
        for label in range(len(CLASSES)):
            members = rng.permutation(np.flatnonzero(labels == label))[:_MOST_PER_CLASS]
            bounds = np.cumsum([_PRE_TRAINING, _TRAIN, _VAL])
            pieces = np.split(members, np.rint(bounds * len(members)).astype(int))
            for name, piece in zip(parts, pieces, strict=True):
                parts[name].append(piece)
        return {name: np.sort(np.concatenate(pieces)).astype(np.int64) for name, pieces in parts.items()}

    def render(self, rng: Generator, drawings: Int64[np.ndarray, " n"]) -> np.ndarray:
        """Return one rendering of each drawing, slightly moved, on any background. uint8 ``[n, 3, 32, 32]``."""
        sprites = canvas.premultiplied(self.images[drawings])
        placed = canvas.warp(sprites, _PLACEMENT.draw(rng, len(drawings)))
        return canvas.to_bytes(canvas.on_any_background(rng, placed))


def load(sources: Path) -> ClipArt:
    """Read the drawings.

    Raises:
        ValueError: the source is missing or damaged.
    """
    images, paths = read_arrays(sources / "clipart.npz", "images", "paths")
    return ClipArt(images, paths.tolist())


def splits(sources: Path, rng: Generator) -> dict[str, LabelledImages]:
    """Return the task: two renderings of each drawing of ``train``, one of each of ``val`` and ``test``."""
    art = load(sources)
    parts = art.parts()
    out = {}
    for name, renderings in (("train", _TRAIN_RENDERINGS), ("val", 1), ("test", 1)):
        drawings = np.tile(parts[name], renderings)
        labels = np.array([art.label(int(position)) for position in drawings], dtype=np.int64)
        out[name] = LabelledImages(art.render(rng, drawings), labels)
    return out


def caption_words(path: str) -> str:
    """Return the words of a drawing's file name and folder, without the author's name."""
    folder, _, name = path.rpartition("/")
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if len(word) > 2]
    place = folder.rsplit("/", 1)[-1].replace("_", " ").rstrip("s")
    return " ".join([*words[:3], place])
