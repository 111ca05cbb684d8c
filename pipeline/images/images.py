"""Labelled images as packed uint8 arrays: the form in which every split of every task is kept."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8

Images = UInt8[np.ndarray, "n channels height width"]
Labels = Int64[np.ndarray, " n"]


@dataclass(frozen=True)
class LabelledImages:
    """Images with one integer label each.

    images: uint8, ``[n, 3, height, width]``, RGB.
    labels: int64, ``[n]``, the position of the image's class in the task's list of classes.
    """

    images: Images
    labels: Labels

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise ValueError(f"{len(self.images)} images but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Int64[np.ndarray, " m"]) -> "LabelledImages":
        """Return the images and labels at ``indices``, in that order."""
        return LabelledImages(self.images[indices], self.labels[indices])
