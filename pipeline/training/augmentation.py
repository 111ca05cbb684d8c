"""Random crops that are a function of the seed and the step alone."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

Images = UInt8[Tensor, "n channels height width"]


def random_crops(images: Images, padding: int, random: np.random.Generator) -> Images:
    """Shift every image by up to ``padding`` pixels in each direction, repeating the pixels of its border.

    Equals a random crop after replicate padding.
    """
    n, _, height, width = images.shape
    shifts = torch.from_numpy(random.integers(-padding, padding + 1, size=(2, n)))
    rows = (torch.arange(height) + shifts[0, :, None]).clamp(0, height - 1).to(images.device)
    columns = (torch.arange(width) + shifts[1, :, None]).clamp(0, width - 1).to(images.device)
    picked = images.permute(0, 2, 3, 1)[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)
