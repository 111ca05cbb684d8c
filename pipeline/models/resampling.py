"""Antialiased bicubic resizing of uint8 images on any device, equal to PIL's in CLIP's preprocessing.

Resampling is linear in rows and in columns, so two matrix products resize a whole batch, with a box per image;
libraries need one call per box.
"""

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

Size = tuple[int, int]

# Parameter a of the cubic kernel, as in PIL and in torch's antialiasing.
_CUBIC = -0.5


def resize(
    images: UInt8[Tensor, "n channels height width"], size: Size
) -> UInt8[Tensor, "n channels new_height new_width"]:
    """Return images resized to (height, width)."""
    # Created on the device: copying from the CPU would synchronise.
    whole = [torch.full((1,), number, device=images.device) for number in (0, 0, *images.shape[2:])]
    return resize_boxes(images, torch.stack(whole, dim=1), size)


def resize_boxes(
    images: UInt8[Tensor, "n channels height width"], boxes: Int64[Tensor, "_ 4"], size: Size
) -> UInt8[Tensor, "n channels new_height new_width"]:
    """Crop images to boxes (top, left, height, width), one each or one for all, and resize them to (height, width).

    Columns are resampled before rows, and pixels are rounded and clamped to 0…255 after each, as in PIL.
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
    """Return matrices that resample ``length`` of ``inputs`` pixels, beginning at ``start``, to ``outputs`` pixels."""
    start, length = start.float()[:, None, None], length.float()[:, None, None]
    step = length / outputs
    width = step.clamp(min=1)  # width of the kernel: wider when shrinking, to average pixels
    out = torch.arange(outputs, dtype=torch.float32, device=start.device)[:, None]
    pixels = torch.arange(inputs, dtype=torch.float32, device=start.device)
    weights = _cubic((pixels + 0.5 - start - step * (out + 0.5)) / width)
    weights = weights * ((pixels >= start) & (pixels < start + length))
    return weights / weights.sum(dim=-1, keepdim=True)


def _cubic(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Evaluate Keys' cubic convolution kernel."""
    x, a = x.abs(), _CUBIC
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
