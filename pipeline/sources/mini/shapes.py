"""Ten geometric shapes: the masks, and the task that names them."""

from functools import cache

import numpy as np
from jaxtyping import Float32, Int64
from numpy.random import Generator
from PIL import Image, ImageDraw

from pipeline.images.images import LabelledImages
from pipeline.sources.mini import canvas, colours

CLASSES = ("circle", "square", "triangle", "star", "hexagon", "cross", "diamond", "heart", "crescent", "arrow")
OUTLINES = 2
"""Each shape has this many outlines of different thickness besides its filled form."""

_SIDE, _FINE = 40, 320
_TASK_PLACEMENT = canvas.Placement(rotation=20.0, scale=(0.5, 0.95), shift=0.2)


def _polygon(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points)


def _regular(corners: int, start: float) -> np.ndarray:
    angle = np.deg2rad(start) + 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def _arc(start: float, stop: float, points: int) -> np.ndarray:
    angle = np.deg2rad(np.linspace(start, stop, points))
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def _outline(name: str) -> np.ndarray:
    """Return the border of a shape as a polygon, ``[corners, 2]`` in −1 … 1, y downwards."""
    match name:
        case "circle":
            return 0.9 * _regular(180, 0.0)
        case "square":
            return 1.1 * _regular(4, 45.0)
        case "triangle":
            return _polygon((0.0, -0.9), (0.95, 0.8), (-0.95, 0.8))
        case "star":
            return np.where(np.arange(10)[:, None] % 2 == 0, 1.0, 0.42) * _regular(10, -90.0)
        case "hexagon":
            return 0.95 * _regular(6, 0.0)
        case "cross":
            a, b = 0.3, 0.9
            return _polygon(
                (-a, -b),
                (a, -b),
                (a, -a),
                (b, -a),
                (b, a),
                (a, a),
                (a, b),
                (-a, b),
                (-a, a),
                (-b, a),
                (-b, -a),
                (-a, -a),
            )
        case "diamond":
            return _polygon((0.0, -0.98), (0.68, 0.0), (0.0, 0.98), (-0.68, 0.0))
        case "heart":
            t = np.linspace(0.0, 2 * np.pi, 180, endpoint=False)
            y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
            return np.stack([16 * np.sin(t) ** 3, -y - 2], 1) / 17.5
        case "crescent":
            tip, shift = 0.92 * _arc(50.0, 50.0, 1)[0], 0.45
            inner = float(np.rad2deg(np.arctan2(tip[1], tip[0] - shift)))
            radius = float(np.hypot(tip[0] - shift, tip[1]))
            hollow = radius * _arc(360.0 - inner, inner, 90) + np.array([shift, 0])
            return np.concatenate([0.92 * _arc(50.0, 310.0, 90), hollow]) + np.array([0.2, 0])
        case _:
            return _polygon(
                (-0.95, -0.28), (0.1, -0.28), (0.1, -0.75), (0.95, 0.0), (0.1, 0.75), (0.1, 0.28), (-0.95, 0.28)
            )


@cache
def masks() -> Float32[np.ndarray, "shapes forms side side"]:
    """Return every shape filled, then in thin and in thick outline."""
    bank = np.zeros((len(CLASSES), 1 + OUTLINES, _SIDE, _SIDE), dtype=np.float32)
    for row, name in enumerate(CLASSES):
        points = [(float(x), float(y)) for x, y in (_outline(name) * 0.98 + 1) * _FINE / 2]
        for form, width in enumerate((0, 28, 44)):
            image = Image.new("L", (_FINE, _FINE))
            pen = ImageDraw.Draw(image)
            if width:
                pen.line([*points, points[0], points[1]], fill=255, width=width, joint="curve")
            else:
                pen.polygon(points, fill=255)
            bank[row, form] = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX), dtype=np.float32) / 255
    return bank


def render(rng: Generator, labels: Int64[np.ndarray, " n"]) -> np.ndarray:
    """Render the task's images: 60 % outlined, two colours, noise. uint8 ``[n, 3, 32, 32]``."""
    n = len(labels)
    forms = np.where(rng.random(n) < 0.6, rng.integers(1, 1 + OUTLINES, n), 0)
    shapes = canvas.warp(masks()[labels, forms][:, None], _TASK_PLACEMENT.draw(rng, n))
    _, front, back = colours.draw_pairs(rng, n, distance=0.7)
    return canvas.to_bytes(canvas.noisy(rng, canvas.paint(shapes, front, canvas.solid(back)), 0.1))


def split(rng: Generator, n: int) -> LabelledImages:
    """Render ``n`` labelled images of the task."""
    labels = canvas.balanced_labels(rng, n, len(CLASSES))
    return LabelledImages(render(rng, labels), labels)
