"""Random crops against literal padding and cropping."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.config import PaddedCrop
from pipeline.training.augmentation import augment, draw


def images(n: int, height: int = 6, width: int = 5) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=random)


def random_crops(batch: Tensor, padding: int, random: np.random.Generator) -> Tensor:
    crop = PaddedCrop(kind="padded_crop", padding=padding)
    return augment(crop, batch, draw(crop, len(batch), (6, 5), random), None)


def all_crops(image: Tensor, padding: int) -> dict[tuple[int, int], Tensor]:
    """Every crop of the image's size out of the image with replicated borders, by its top left corner."""
    padded = torch.nn.functional.pad(image[None].float(), [padding] * 4, mode="replicate")[0].to(torch.uint8)
    height, width = image.shape[1:]
    return {
        (top, left): padded[:, top : top + height, left : left + width]
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
    }


def corner(image: Tensor, cropped: Tensor, padding: int) -> tuple[int, int]:
    """Where the one crop that ``cropped`` equals begins."""
    found = [place for place, crop in all_crops(image, padding).items() if torch.equal(crop, cropped)]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("padding", [1, 2, 3])
def test_every_image_is_a_crop_of_itself(padding: int) -> None:
    batch = images(400)
    cropped = random_crops(batch, padding, np.random.default_rng(0))
    assert cropped.dtype == torch.uint8
    assert cropped.shape == batch.shape
    corners = [corner(image, crop, padding) for image, crop in zip(batch, cropped, strict=True)]
    counts = np.zeros((2 * padding + 1, 2 * padding + 1))
    for top, left in corners:
        counts[top, left] += 1
    # Each shift is as likely as every other: all rows and columns within five standard deviations.
    share = 1 / (2 * padding + 1)
    for axis in (0, 1):
        deviation = np.abs(counts.sum(axis=axis) / 400 - share).max()
        assert deviation < 5 * np.sqrt(share * (1 - share) / 400)
    independent = np.corrcoef(np.array(corners).T)[0, 1]
    assert abs(independent) < 5 / np.sqrt(400)


def test_no_padding_changes_nothing() -> None:
    batch = images(3)
    assert torch.equal(random_crops(batch, 0, np.random.default_rng(0)), batch)


def test_images_are_not_changed_in_place() -> None:
    batch = images(3)
    before = batch.clone()
    random_crops(batch, 2, np.random.default_rng(0))
    assert torch.equal(batch, before)


def test_crops_depend_on_the_generator_alone() -> None:
    batch = images(20)
    first, again, other = (random_crops(batch, 2, np.random.default_rng([seed, 1, 7])) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
