"""Random crops against literal padding and cropping, and against torchvision and PIL."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2.functional import resized_crop

from pipeline.config import PaddedCrop, ResizedCrop
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
    """Return the offset of the only crop that equals ``cropped``."""
    corners = [place for place, crop in all_crops(image, padding).items() if torch.equal(crop, cropped)]
    assert len(corners) == 1
    return corners[0]


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


SQUARE = ResizedCrop(kind="resized_crop", scale=(0.9, 1.0))
# Sizes of images and of crops: kept, made smaller, larger, and of other shapes.
RESIZES = [((32, 32), (32, 32)), ((64, 48), (20, 24)), ((28, 28), (56, 56)), ((9, 30), (16, 16))]


def smooth(n: int, height: int, width: int) -> Tensor:
    """Images with edges, which resampling overshoots, and without noise, on which no two resamplings agree."""
    random = torch.Generator().manual_seed(0)
    small = torch.randint(0, 256, (n, 3, 5, 4), generator=random).float()
    return torch.nn.functional.interpolate(small, (height, width), mode="nearest").to(torch.uint8)


@pytest.mark.parametrize(("size", "output"), RESIZES)
@pytest.mark.parametrize("scale", [(0.9, 1.0), (0.1, 0.4)])
def test_resized_crops_are_torchvisions(
    size: tuple[int, int], output: tuple[int, int], scale: tuple[float, float]
) -> None:
    """To two levels of 255: torchvision's weights are 16-bit integers. And to one level of PIL's."""
    crop, batch = ResizedCrop(kind="resized_crop", scale=scale), smooth(12, *size)
    boxes = draw(crop, len(batch), size, np.random.default_rng(0))
    crops = augment(crop, batch, boxes, output)
    assert crops.dtype == torch.uint8
    assert crops.shape == (len(batch), 3, *output)
    for image, box, cropped in zip(batch, boxes.tolist(), crops, strict=True):
        top, left, height, width = box
        expected = resized_crop(image, top, left, height, width, list(output), InterpolationMode.BICUBIC, True)
        assert (cropped.int() - expected.int()).abs().max() <= 2
        if scale[1] < 1:
            continue
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        resized = picture.crop((left, top, left + width, top + height)).resize(
            (output[1], output[0]), Image.Resampling.BICUBIC
        )
        by_pil = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
        assert (cropped.int() - by_pil.int()).abs().max() <= 1


def test_the_whole_image_in_its_own_size_is_itself() -> None:
    batch = images(3)
    whole = torch.tensor([[0, 0, 6, 5]]).expand(3, -1)
    assert torch.equal(augment(SQUARE, batch, whole, (6, 5)), batch)
    assert torch.equal(augment(SQUARE, batch, whole, None), batch)


@pytest.mark.parametrize(("size", "scale"), [((224, 224), (0.9, 1.0)), ((60, 90), (0.2, 1.0)), ((20, 90), (0.9, 1.0))])
def test_boxes_are_distributed_as_torchvisions(size: tuple[int, int], scale: tuple[float, float]) -> None:
    """If an image is too long for any box, torchvision takes the middle; here it stays whole."""
    crop = ResizedCrop(kind="resized_crop", scale=scale)
    boxes = draw(crop, 3000, size, np.random.default_rng(0)).numpy()
    top, left, height, width = boxes.T
    assert boxes.min() >= 0
    assert (height >= 1).all()
    assert (width >= 1).all()
    assert (top + height <= size[0]).all()
    assert (left + width <= size[1]).all()
    if size == (20, 90):
        assert (boxes == [0, 0, 20, 90]).all()
        return
    theirs = RandomResizedCrop(8, scale=scale)
    torch.manual_seed(0)
    given = [theirs.make_params([torch.zeros(3, *size)]) for _ in range(3000)]
    for ours, name in ((top, "top"), (left, "left"), (height, "height"), (width, "width")):
        result: Any = ks_2samp(ours, [params[name] for params in given])
        assert result.pvalue > 1e-3, name


def test_boxes_depend_on_the_generator_alone() -> None:
    first, again, other = (draw(SQUARE, 20, (32, 32), np.random.default_rng([seed, 1, 7])) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
