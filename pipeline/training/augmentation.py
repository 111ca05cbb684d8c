"""Random crops: random numbers are drawn on the CPU, a row per image, and applied on the images' device."""

import math

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from pipeline.config import PaddedCrop, ResizedCrop
from pipeline.models.encoders import ImageBatch
from pipeline.models.resampling import Size, resize_boxes

# One row per image: two shifts, or the top, left, height and width of a box.
Draws = Int64[Tensor, "n numbers"]

# As in torchvision's RandomResizedCrop, which the papers' code uses.
_ASPECT = 4 / 3  # largest ratio of the sides
_ATTEMPTS = 10


def draw(crop: PaddedCrop | ResizedCrop, n: int, size: Size, random: np.random.Generator) -> Draws:
    """Draw the crops of ``n`` images of a size (height, width)."""
    if isinstance(crop, PaddedCrop):
        return torch.from_numpy(random.integers(-crop.padding, crop.padding + 1, size=(2, n)).T)
    return torch.from_numpy(_boxes(crop.scale, n, size, random))


def augment(
    crop: PaddedCrop | ResizedCrop, images: ImageBatch, draws: Draws, size: Size | None
) -> UInt8[Tensor, "n _ _ _"]:
    """Crop the images as drawn, on their device; resized crops have the given size, or that of the images."""
    if isinstance(crop, PaddedCrop):
        return shift(images, draws)
    return resize_boxes(images, draws, size or (images.shape[2], images.shape[3]))


def shift(images: ImageBatch, shifts: Int64[Tensor, "n 2"]) -> ImageBatch:
    """Shift each image by its number of rows and columns, repeating the pixels of its border.

    Equals a random crop after replicate padding.
    """
    n, _, height, width = images.shape
    rows = (torch.arange(height, device=images.device) + shifts[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) + shifts[:, 1:]).clamp(0, width - 1)
    each = torch.arange(n, device=images.device)[:, None, None]
    picked = images.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def _boxes(scale: tuple[float, float], n: int, size: Size, random: np.random.Generator) -> Int64[np.ndarray, "n 4"]:
    """Draw boxes like torchvision's RandomResizedCrop: the first of ten attempts that fits, else the whole image.

    Every image consumes the same number of random numbers.
    """
    height, width = size
    areas = random.uniform(*scale, (n, _ATTEMPTS)) * height * width
    aspects = np.exp(random.uniform(-math.log(_ASPECT), math.log(_ASPECT), (n, _ATTEMPTS)))
    heights, widths = np.rint(np.sqrt(areas / aspects)), np.rint(np.sqrt(areas * aspects))
    fits = (heights >= 1) & (heights <= height) & (widths >= 1) & (widths <= width)
    first = (np.arange(n), fits.argmax(axis=1))
    any_fits = fits.any(axis=1)
    h, w = np.where(any_fits, heights[first], height), np.where(any_fits, widths[first], width)
    top, left = (
        np.floor(u * (room + 1)) for u, room in zip(random.random((2, n)), (height - h, width - w), strict=True)
    )
    return np.stack([top, left, h, w], axis=1).astype(np.int64)
