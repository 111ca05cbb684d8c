"""Place pictures on backgrounds, many at once, in NumPy: the basis of every rendered image.

Images are float32 in 0 … 1 until :func:`to_bytes`. A sprite is a small picture whose last channel is its opacity and
whose colours are already multiplied by it (so that interpolation is right at the edges); a mask is opacity alone.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from numpy.random import Generator

SIZE = 32
_CHUNK = 512


@dataclass(frozen=True)
class Placement:
    """Limits of the random movements of sprites.

    rotation: degrees either way. scale: the range of sizes, 1 fills the image. shift: either way, 1 is half the image.
    shear, aspect: either way, as fractions.
    """

    rotation: float = 15.0
    scale: tuple[float, float] = (0.7, 1.0)
    shift: float = 0.15
    shear: float = 0.1
    aspect: float = 0.1

    def draw(self, rng: Generator, n: int) -> Float32[np.ndarray, "n 2 3"]:
        """Return random matrices from image to sprite coordinates, both −1 … 1."""
        angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation, n))
        size = rng.uniform(*self.scale, n)
        stretch = np.exp(rng.uniform(-self.aspect, self.aspect, n))
        shear = rng.uniform(-self.shear, self.shear, n)
        shift = rng.uniform(-self.shift, self.shift, (n, 2))
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
        lean = np.stack([np.stack([stretch, shear], -1), np.stack([0 * shear, 1 / stretch], -1)], -2)
        linear = (turn @ lean) / size[:, None, None]
        return np.concatenate([linear, -(linear @ shift[..., None])], -1).astype(np.float32)


def warp(
    sprites: Float32[np.ndarray, "n channels height width"], matrices: Float32[np.ndarray, "n 2 3"], size: int = SIZE
) -> Float32[np.ndarray, "n channels size size"]:
    """Sample sprites bilinearly at affinely moved positions; outside of a sprite is zero."""
    out = np.empty((*sprites.shape[:2], size, size), dtype=np.float32)
    for start in range(0, len(sprites), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        out[chunk] = _warp_chunk(sprites[chunk], matrices[chunk], size)
    return out


def _warp_chunk(sprites: np.ndarray, matrices: np.ndarray, size: int) -> np.ndarray:
    n, channels, height, width = sprites.shape
    axis = (np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1
    grid = np.stack([np.tile(axis, size), np.repeat(axis, size), np.ones(size * size, np.float32)])
    position = matrices @ grid
    x = np.clip((position[:, 0] + 1) * (width / 2) + 0.5, 0, width + 1)
    y = np.clip((position[:, 1] + 1) * (height / 2) + 0.5, 0, height + 1)
    left, top = np.minimum(x.astype(np.int64), width), np.minimum(y.astype(np.int64), height)
    fx, fy = (x - left).astype(np.float32), (y - top).astype(np.float32)
    # Padding by one pixel on every side makes everything outside zero without a special case.
    padded = np.pad(sprites, ((0, 0), (0, 0), (1, 1), (1, 1))).transpose(0, 2, 3, 1)
    flat = np.ascontiguousarray(padded).reshape(-1, channels)
    corner = np.arange(n)[:, None] * ((height + 2) * (width + 2)) + top * (width + 2) + left
    upper = flat[corner] * (1 - fx)[..., None] + flat[corner + 1] * fx[..., None]
    lower = flat[corner + width + 2] * (1 - fx)[..., None] + flat[corner + width + 3] * fx[..., None]
    mixed = upper * (1 - fy)[..., None] + lower * fy[..., None]
    return mixed.transpose(0, 2, 1).reshape(n, channels, size, size)


def premultiplied(rgba: UInt8[np.ndarray, "n height width 4"]) -> Float32[np.ndarray, "n 4 height width"]:
    """Return sprites from ordinary RGBA pictures."""
    pixels = rgba.astype(np.float32).transpose(0, 3, 1, 2) / 255
    pixels[:, :3] *= pixels[:, 3:]
    return pixels


def over(
    sprites: Float32[np.ndarray, "n 4 size size"], background: Float32[np.ndarray, "n 3 size size"]
) -> Float32[np.ndarray, "n 3 size size"]:
    """Lay sprites on backgrounds."""
    return sprites[:, :3] + background * (1 - sprites[:, 3:])


def paint(
    masks: Float32[np.ndarray, "n 1 size size"],
    colours: Float32[np.ndarray, "n 3"],
    background: Float32[np.ndarray, "n 3 size size"],
) -> Float32[np.ndarray, "n 3 size size"]:
    """Paint masks in one colour each on backgrounds."""
    return colours[:, :, None, None] * masks + background * (1 - masks)


def solid(colours: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3 size size"]:
    """Return backgrounds of one colour."""
    return np.tile(colours[:, :, None, None], (1, 1, SIZE, SIZE)).astype(np.float32)


def backgrounds(rng: Generator, n: int) -> Float32[np.ndarray, "n 3 size size"]:
    """Return backgrounds: 25 % white, 12 % black, the others of a random colour, plain, blotched or shaded."""
    kind = rng.random(n)
    colours = rng.random((n, 3)).astype(np.float32)
    other = rng.random((n, 3)).astype(np.float32)
    blotches = enlarge(rng.normal(0, 0.12, (n, 3, 4, 4)).astype(np.float32))
    angle = rng.uniform(0, 2 * np.pi, n)
    axis = np.linspace(-0.5, 0.5, SIZE)
    ramp = np.cos(angle)[:, None, None] * axis + np.sin(angle)[:, None, None] * axis[:, None]
    ramp = np.clip(ramp + 0.5, 0, 1).astype(np.float32)[:, None]
    plain = solid(colours)
    out = np.where((kind < 0.58)[:, None, None, None], plain, plain + blotches)
    shaded = plain * (1 - ramp) + solid(other) * ramp
    out = np.where((kind > 0.79)[:, None, None, None], shaded, out)
    out = np.where((kind < 0.37)[:, None, None, None], 0.0, out)
    return np.where((kind < 0.25)[:, None, None, None], 1.0, out).astype(np.float32)


def on_any_background(
    rng: Generator, sprites: Float32[np.ndarray, "n 4 size size"]
) -> Float32[np.ndarray, "n 3 size size"]:
    """Lay sprites on random backgrounds, or on white or black if they would hardly be visible."""
    ground = backgrounds(rng, len(sprites))
    ink = np.maximum(sprites[:, 3].sum((1, 2)), 1e-6)
    contrast = np.abs(sprites[:, :3] - ground * sprites[:, 3:]).mean(1).sum((1, 2)) / ink
    bright = sprites[:, :3].mean(1).sum((1, 2)) / ink > 0.5
    plain = np.where(bright, np.float32(0), np.float32(1))[:, None, None, None]
    return over(sprites, np.where((contrast < 0.12)[:, None, None, None], plain, ground))


def enlarge(
    small: Float32[np.ndarray, "n channels height width"], size: int = SIZE
) -> Float32[np.ndarray, "n channels size size"]:
    """Enlarge bilinearly, constant beyond the centres of the outer pixels."""
    rows, columns = _interpolation(small.shape[2], size), _interpolation(small.shape[3], size)
    return (rows @ small @ columns.T).astype(np.float32)


def _interpolation(source: int, target: int) -> Float32[np.ndarray, "target source"]:
    position = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(source))).astype(np.float32)


def noisy(
    rng: Generator, images: Float32[np.ndarray, "n 3 size size"], deviation: float
) -> Float32[np.ndarray, "n 3 size size"]:
    """Add independent Gaussian noise to every value."""
    return images + rng.normal(0, deviation, images.shape).astype(np.float32)


def to_bytes(
    images: Float32[np.ndarray, "n channels size size"],
) -> UInt8[np.ndarray, "n channels size size"]:
    """Round to uint8, 0 … 255."""
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def balanced_labels(rng: Generator, n: int, classes: int) -> Int64[np.ndarray, " n"]:
    """Return ``n`` labels in random order; the frequencies of classes differ by at most one."""
    return rng.permutation(np.arange(n, dtype=np.int64) % classes)
