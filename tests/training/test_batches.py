"""The images that a step sees: every one once per epoch, and those of other tasks in turn or all at once."""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.config import OtherTasks, PaddedCrop
from pipeline.images import LabelledImages
from pipeline.images.images import Images
from pipeline.training.augmentation import augment
from pipeline.training.batches import Batches, OtherBatches, Picked, count_images

Mode = Literal["cyclic", "strict"]
Steps = list[tuple[int, int, bytes, bytes]]


def crop(padding: int) -> PaddedCrop:
    return PaddedCrop(kind="padded_crop", padding=padding)


def cropped(picked: Picked, padding: int = 1) -> Tensor:
    """The images as a step sees them."""
    return augment(crop(padding), torch.from_numpy(picked.images[picked.indices]), picked.draws, None)


def numbered(n: int, first: int = 0) -> LabelledImages:
    """Images that are all of one colour, which is the image's number and its label."""
    numbers = np.arange(first, first + n)
    images = np.broadcast_to(numbers.astype(np.uint8)[:, None, None, None], (n, 3, 4, 4)).copy()
    return LabelledImages(images, numbers.astype(np.int64))


def numbers(images: Tensor) -> list[int]:
    """The numbers of such images, whose colour cropping preserves."""
    assert bool((images == images[:, :1, :1, :1]).all())
    return images[:, 0, 0, 0].tolist()


def steps(batches: Batches, first: int, last: int) -> Steps:
    return [
        (step, epoch, cropped(picked, 2).numpy().tobytes(), labels(picked).tobytes())
        for step, epoch, picked in batches.iterate(first, last)
    ]


def labels(picked: Picked) -> np.ndarray:
    assert picked.labels is not None
    return picked.labels


@pytest.mark.parametrize(("n", "size"), [(12, 4), (13, 4), (15, 4), (7, 7), (8, 7), (9, 1)])
def test_an_epoch_shows_every_image_exactly_once(n: int, size: int) -> None:
    """In full batches and, as the published loaders do, one of the remaining images."""
    batches = Batches(numbered(n), size, crop(1), seed=3)
    sizes = [size] * (n // size) + [n % size] * (n % size > 0)
    assert batches.per_epoch == len(sizes)
    seen: dict[int, list[int]] = {}
    for step, epoch, picked in batches.iterate(0, 4 * batches.per_epoch):
        assert epoch == step // batches.per_epoch
        assert numbers(cropped(picked)) == labels(picked).tolist()
        assert len(picked) == len(picked.draws) == sizes[step % len(sizes)]
        seen.setdefault(epoch, []).extend(labels(picked).tolist())
    assert list(seen) == [0, 1, 2, 3]
    for order in seen.values():
        assert sorted(order) == list(range(n))
    assert len({tuple(order) for order in seen.values()}) == 4


@pytest.mark.parametrize(("n", "size"), [(12, 4), (13, 4), (15, 4), (7, 7), (8, 7)])
def test_images_are_counted_as_the_batches_show_them(n: int, size: int) -> None:
    batches = Batches(numbered(n), size, crop(1), seed=3)
    shown = [len(picked) for _, _, picked in batches.iterate(0, 9)]
    assert [count_images(n, size, steps) for steps in range(10)] == [sum(shown[:steps]) for steps in range(10)]


@pytest.mark.parametrize("first", range(9))
def test_batches_are_a_function_of_seed_and_step(first: int, make_images: Callable[..., LabelledImages]) -> None:
    """Wherever one begins."""
    batches = Batches(make_images(11), 4, crop(2), seed=0)
    assert steps(batches, first, 9) == steps(batches, 0, 9)[first:]
    assert steps(Batches(make_images(11), 4, crop(2), seed=1), 0, 9) != steps(batches, 0, 9)


@pytest.fixture(scope="module")
def pools() -> Mapping[str, Images]:
    """Tasks of 10, 6 and 2 images, with numbers of their own."""
    return {"a": numbered(10).images, "b": numbered(6, 100).images, "c": numbered(2, 200).images}


def other_batches(pools: Mapping[str, Images], mode: Mode, size: int = 4, seed: int = 0) -> OtherBatches:
    return OtherBatches(
        pools, OtherTasks(tasks=["a", "b", "c"], control=None, arrivals=None, mode=mode, batch_size=size), crop(1), seed
    )


def tasks_of(step: list[Picked]) -> list[str]:
    return ["abc"[numbers(cropped(picked))[0] // 100] for picked in step]


def test_cyclic_takes_the_tasks_in_turn(pools: Mapping[str, Images]) -> None:
    batches = other_batches(pools, "cyclic")
    assert [tasks_of(batches.of_step(step)) for step in range(7)] == [[task] for task in "abcabca"]


def test_strict_takes_all_tasks_in_every_step(pools: Mapping[str, Images]) -> None:
    batches = other_batches(pools, "strict")
    assert [tasks_of(batches.of_step(step)) for step in range(4)] == [["a", "b", "c"]] * 4


@pytest.mark.parametrize("mode", ["cyclic", "strict"])
def test_batches_of_other_tasks(mode: Mode, pools: Mapping[str, Images]) -> None:
    """Different images of one task, all of them where there are too few, and others in another step."""
    batches: dict[str, list[list[int]]] = {"a": [], "b": [], "c": []}
    for step in range(60):
        for picked in other_batches(pools, mode).of_step(step):
            seen = numbers(cropped(picked))
            batches["abc"[seen[0] // 100]].append(seen)
    for task, size in (("a", 4), ("b", 4), ("c", 2)):
        pool = set(numbers(torch.from_numpy(pools[task])))
        assert all(len(batch) == len(set(batch)) == size for batch in batches[task])
        assert all(set(batch) <= pool for batch in batches[task])
        assert {number for batch in batches[task] for number in batch} == pool
    assert len({tuple(batch) for batch in batches["a"]}) > 5


@pytest.mark.parametrize("mode", ["cyclic", "strict"])
def test_batches_of_other_tasks_are_a_function_of_seed_and_step(mode: Mode, others: Mapping[str, Images]) -> None:
    def made(seed: int, order: list[int]) -> dict[int, list[bytes]]:
        batches = other_batches(others, mode, size=2, seed=seed)
        return {step: [cropped(picked).numpy().tobytes() for picked in batches.of_step(step)] for step in order}

    first = made(0, list(range(12)))
    assert made(0, list(range(11, -1, -1))) == first
    assert made(1, list(range(12))) != first
    assert len({tuple(step) for step in first.values()}) == 12


def test_batches_of_other_tasks_are_cropped_as_the_own(others: Mapping[str, Images]) -> None:
    """By as much as ``padding`` allows: without it they are images of the task as they are."""
    for padding, moved in ((0, False), (1, True)):
        settings = OtherTasks(tasks=["a"], control=None, arrivals=None, mode="strict", batch_size=3)
        batches = OtherBatches({"a": others["a"]}, settings, crop(padding), seed=0)
        originals = {image.tobytes() for image in others["a"]}
        (picked,) = batches.of_step(0)
        assert (not {image.numpy().tobytes() for image in cropped(picked, padding)} <= originals) == moved
