"""Random crops. Their random numbers are drawn on the CPU, a row per image, and applied wherever the images are."""

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from pipeline.config import PaddedCrop, ResizedCrop

Images = UInt8[Tensor, "n channels height width"]
# A row per image: two shifts, or the top, left, height and width of a box.
Draws = Int64[Tensor, "n numbers"]
Size = tuple[int, int]

# Those of torchvision's RandomResizedCrop, which the papers' code calls.
_ASPECTS = (3 / 4, 4 / 3)
_ATTEMPTS = 10
# Of the cubic kernel, as in PIL and in torch where it antialiases.
_CUBIC = -0.5


def draw(crop: PaddedCrop | ResizedCrop, n: int, size: Size, random: np.random.Generator) -> Draws:
    """What is to be done to ``n`` images of a size (height, width)."""
    if isinstance(crop, PaddedCrop):
        return torch.from_numpy(random.integers(-crop.padding, crop.padding + 1, size=(2, n)).T)
    return torch.from_numpy(_boxes(crop.scale, n, size, random))


def augment(crop: PaddedCrop | ResizedCrop, images: Images, draws: Draws, size: Size | None) -> Images:
    """The images cropped as drawn, on their device; a resized crop has the given size, or that of the images."""
    if isinstance(crop, PaddedCrop):
        return shift(images, draws)
    return resize_boxes(images, draws, size or (images.shape[2], images.shape[3]))


def shift(images: Images, shifts: Int64[Tensor, "n 2"]) -> Images:
    """Shift every image by so many rows and columns, repeating the pixels of its border.

    Equals a random crop after replicate padding.
    """
    n, _, height, width = images.shape
    rows = (torch.arange(height, device=images.device) + shifts[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) + shifts[:, 1:]).clamp(0, width - 1)
    each = torch.arange(n, device=images.device)[:, None, None]
    picked = images.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def _boxes(scale: tuple[float, float], n: int, size: Size, random: np.random.Generator) -> Int64[np.ndarray, "n 4"]:
    """Boxes as torchvision's RandomResizedCrop draws them: the first of ten attempts that fits, else the whole image.

    Every image takes as many random numbers, whichever attempt fits.
    """
    height, width = size
    areas = random.uniform(*scale, (n, _ATTEMPTS)) * height * width
    aspects = np.exp(random.uniform(*np.log(_ASPECTS), (n, _ATTEMPTS)))
    heights, widths = np.rint(np.sqrt(areas / aspects)), np.rint(np.sqrt(areas * aspects))
    fits = (heights >= 1) & (heights <= height) & (widths >= 1) & (widths <= width)
    first = (np.arange(n), fits.argmax(axis=1))
    found = fits.any(axis=1)
    h, w = np.where(found, heights[first], height), np.where(found, widths[first], width)
    top, left = (
        np.floor(u * (room + 1)) for u, room in zip(random.random((2, n)), (height - h, width - w), strict=True)
    )
    return np.stack([top, left, h, w], axis=1).astype(np.int64)


def resize_boxes(images: Images, boxes: Int64[Tensor, "n 4"], size: Size) -> Images:
    """Every image's box resized to a size, bicubic and antialiased.

    A resampling is linear in rows and in columns: as two matrix products for the whole batch it costs far less than
    an ordinary call for each box. Pixels are rounded, as those of an image library.
    """
    rows = _resampling(images.shape[2], boxes[:, 0], boxes[:, 2], size[0])
    columns = _resampling(images.shape[3], boxes[:, 1], boxes[:, 3], size[1])
    resized = rows[:, None] @ images.float() @ columns[:, None].mT
    return resized.round().clamp(0, 255).to(torch.uint8)


def _resampling(
    inputs: int, start: Int64[Tensor, " n"], length: Int64[Tensor, " n"], outputs: int
) -> Float[Tensor, "n outputs inputs"]:
    """The matrices that resample ``inputs`` pixels from ``start`` on for ``length`` to ``outputs`` pixels."""
    start, length = start.float()[:, None, None], length.float()[:, None, None]
    step = length / outputs
    width = step.clamp(min=1)  # of the kernel: wider where pixels are averaged
    out = torch.arange(outputs, dtype=torch.float32, device=start.device)[:, None]
    pixels = torch.arange(inputs, dtype=torch.float32, device=start.device)
    weights = _cubic((pixels + 0.5 - start - step * (out + 0.5)) / width)
    weights = weights * ((pixels >= start) & (pixels < start + length))
    return weights / weights.sum(dim=-1, keepdim=True)


def _cubic(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Keys' convolution kernel."""
    x, a = x.abs(), _CUBIC
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
