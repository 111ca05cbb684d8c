"""Twelve road signs, drawn and then photographed badly.

The task and the pre-training corpus share the drawings: the task's signs are seen clean in pre-training, half of them
under their name; its renderings (warped, dark, noisy) are not.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64
from numpy.random import Generator
from PIL import Image, ImageDraw

from pipeline.images.images import LabelledImages
from pipeline.sources.mini import canvas, glyphs

CLASSES = (
    "stop sign",
    "yield sign",
    "no entry sign",
    "speed limit 30 sign",
    "speed limit 50 sign",
    "speed limit 80 sign",
    "priority road sign",
    "turn left sign",
    "turn right sign",
    "parking sign",
    "warning sign",
    "no parking sign",
)
APPEARANCES = (
    "a red octagon sign",
    "a white triangle sign pointing down with a red border",
    "a red circle sign with a white bar",
    "a round sign with the number 30",
    "a round sign with the number 50",
    "a round sign with the number 80",
    "a yellow diamond sign",
    "a blue circle sign with an arrow to the left",
    "a blue circle sign with an arrow to the right",
    "a blue square sign with the letter p",
    "a white triangle sign with a red border",
    "a blue circle sign with a red border",
)
"""Descriptions of the signs for captions that do not give away the name."""

_SIDE, _FINE = 48, 384
_RED, _WHITE, _BLUE, _YELLOW, _BLACK = (200, 20, 30), (250, 250, 250), (25, 75, 190), (250, 205, 20), (15, 15, 15)
_LETTERING = "Open Sans"
_TASK_PLACEMENT = canvas.Placement(rotation=12.0, scale=(0.7, 1.0), shift=0.15, shear=0.2, aspect=0.2)
_CLEAN_PLACEMENT = canvas.Placement(rotation=5.0, scale=(0.85, 1.0), shift=0.05, shear=0.02, aspect=0.03)


class _Board:
    """A square drawing in coordinates −1 … 1, y downwards."""

    def __init__(self, bank: glyphs.GlyphBank) -> None:
        self.image = Image.new("RGBA", (_FINE, _FINE))
        self._pen = ImageDraw.Draw(self.image)
        self._bank = bank
        self._font = bank.fonts.index(_LETTERING)

    def polygon(self, points: list[tuple[float, float]], colour: tuple[int, int, int]) -> None:
        self._pen.polygon([((x + 1) * _FINE / 2, (y + 1) * _FINE / 2) for x, y in points], fill=(*colour, 255))

    def disc(self, radius: float, colour: tuple[int, int, int]) -> None:
        low, high = (1 - radius) * _FINE / 2, (1 + radius) * _FINE / 2
        self._pen.ellipse((low, low, high, high), fill=(*colour, 255))

    def box(self, width: float, height: float, colour: tuple[int, int, int]) -> None:
        self.polygon([(-width, -height), (width, -height), (width, height), (-width, height)], colour)

    def text(self, characters: str, height: float, colour: tuple[int, int, int]) -> None:
        """Draw characters side by side in the middle."""
        tiles = [self._bank.glyphs[self._font, self._bank.characters.index(c)] for c in characters]
        columns = [np.flatnonzero(tile.any(0)) for tile in tiles]
        row = np.concatenate(
            [np.pad(tile[:, c[0] : c[-1] + 1], ((0, 0), (1, 1))) for tile, c in zip(tiles, columns, strict=True)],
            axis=1,
        )
        ink = Image.fromarray(row[np.flatnonzero(row.any(1))])
        size = (round(ink.width * height * _FINE / 2 / ink.height), round(height * _FINE / 2))
        ink = ink.resize(size, Image.Resampling.BICUBIC)
        self.image.paste((*colour, 255), ((_FINE - size[0]) // 2, (_FINE - size[1]) // 2), ink)


def _regular(corners: int, radius: float, start: float) -> list[tuple[float, float]]:
    angles = np.deg2rad(start + 360 / corners * np.arange(corners))
    return [(float(radius * np.cos(a)), float(radius * np.sin(a))) for a in angles]


def _arrow(direction: int) -> list[tuple[float, float]]:
    points = [(-0.6, -0.13), (0.1, -0.13), (0.1, -0.42), (0.65, 0.0), (0.1, 0.42), (0.1, 0.13), (-0.6, 0.13)]
    return [(direction * x, y) for x, y in points]


def _triangle(radius: float, down: bool) -> list[tuple[float, float]]:
    offset = -0.22 if down else 0.22
    return [(x, y + offset) for x, y in _regular(3, radius, 90.0 if down else -90.0)]


def _draw(board: _Board, name: str) -> None:
    match name.removesuffix(" sign").split():
        case ["stop"]:
            board.polygon(_regular(8, 1.0, 22.5), _WHITE)
            board.polygon(_regular(8, 0.92, 22.5), _RED)
            board.text("STOP", 0.48, _WHITE)
        case ["yield"]:
            board.polygon(_triangle(1.15, down=True), _RED)
            board.polygon(_triangle(0.62, down=True), _WHITE)
        case ["no", "entry"]:
            board.disc(0.95, _RED)
            board.box(0.65, 0.17, _WHITE)
        case ["speed", "limit", number]:
            board.disc(0.95, _RED)
            board.disc(0.7, _WHITE)
            board.text(number, 0.75, _BLACK)
        case ["priority", "road"]:
            board.polygon(_regular(4, 1.0, 0.0), _BLACK)
            board.polygon(_regular(4, 0.96, 0.0), _WHITE)
            board.polygon(_regular(4, 0.7, 0.0), _YELLOW)
        case ["turn", direction]:
            board.disc(0.95, _BLUE)
            board.polygon(_arrow(-1 if direction == "left" else 1), _WHITE)
        case ["parking"]:
            board.box(0.9, 0.9, _BLUE)
            board.text("P", 1.2, _WHITE)
        case ["warning"]:
            board.polygon(_triangle(1.15, down=False), _RED)
            board.polygon(_triangle(0.75, down=False), _WHITE)
            board.polygon([(-0.1, -0.3), (0.1, -0.3), (0.06, 0.25), (-0.06, 0.25)], _BLACK)
            board.polygon([(-0.08, 0.33), (0.08, 0.33), (0.08, 0.47), (-0.08, 0.47)], _BLACK)
        case _:
            board.disc(0.95, _RED)
            board.disc(0.72, _BLUE)
            board.polygon([(-0.6, -0.45), (-0.45, -0.6), (0.6, 0.45), (0.45, 0.6)], _RED)


def drawings(bank: glyphs.GlyphBank) -> Float32[np.ndarray, "12 4 side side"]:
    """Return the signs as sprites, in the order of ``CLASSES``."""
    pictures = []
    for name in CLASSES:
        board = _Board(bank)
        _draw(board, name)
        pictures.append(np.asarray(board.image.resize((_SIDE, _SIDE), Image.Resampling.BOX)))
    return canvas.premultiplied(np.stack(pictures))


def render_clean(rng: Generator, bank: glyphs.GlyphBank, labels: Int64[np.ndarray, " n"]) -> np.ndarray:
    """Render signs for pre-training: upright, bright, on any background. uint8 ``[n, 3, 32, 32]``."""
    placed = canvas.warp(drawings(bank)[labels], _CLEAN_PLACEMENT.draw(rng, len(labels)))
    return canvas.to_bytes(canvas.over(placed, canvas.backgrounds(rng, len(labels))))


def split(sources: Path, rng: Generator, n: int) -> LabelledImages:
    """Render ``n`` labelled images of the task: warped, in any light, noisy."""
    labels = canvas.balanced_labels(rng, n, len(CLASSES))
    placed = canvas.warp(drawings(glyphs.load(sources))[labels], _TASK_PLACEMENT.draw(rng, n))
    light = rng.uniform(0.35, 1.1, (n, 1, 1, 1)).astype(np.float32)
    scene = canvas.over(placed, canvas.backgrounds(rng, n)) * light
    return LabelledImages(canvas.to_bytes(canvas.noisy(rng, scene, 0.15)), labels)
