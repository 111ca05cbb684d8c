"""Bicubic resizing of uint8 images, antialiased, as PIL does it for CLIP's preprocessing, on any device.

A resampling is linear in rows and in columns: two matrix products do it for a whole batch, each image with a box of its
own, where a library takes a call for each box.
"""

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

Size = tuple[int, int]

# Of the cubic kernel, as in PIL and in torch where it antialiases.
_CUBIC = -0.5


def resize(
    images: UInt8[Tensor, "n channels height width"], size: Size
) -> UInt8[Tensor, "n channels new_height new_width"]:
    """Images resized to (height, width)."""
    # Filled there: a copy would wait for the device.
    whole = [torch.full((1,), number, device=images.device) for number in (0, 0, *images.shape[2:])]
    return resize_boxes(images, torch.stack(whole, dim=1), size)


def resize_boxes(
    images: UInt8[Tensor, "n channels height width"], boxes: Int64[Tensor, "_ 4"], size: Size
) -> UInt8[Tensor, "n channels new_height new_width"]:
    """The boxes (top, left, height, width) of the images, one of each or one of all, resized to (height, width).

    Columns, then rows, and pixels are whole numbers from 0 to 255 after either, as in PIL.
    """
    top, left, height, width = boxes.unbind(dim=1)
    columns = _resampling(images.shape[3], left, width, size[1])
    rows = _resampling(images.shape[2], top, height, size[0])
    wide = _to_pixels(images.float() @ columns[:, None].mT)
    return _to_pixels(rows[:, None] @ wide).to(torch.uint8)


def _to_pixels(values: Tensor) -> Tensor:
    return (values + 0.5).floor().clamp(0, 255)


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
