"""Batches on their way to the device, and numbers on their way back."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.config import Recipe, ResizedCrop
from pipeline.errors import UserError
from pipeline.images import LabelledImages
from pipeline.training import Processes, ResumeFile, StepRecord, loop
from pipeline.training.batches import Batches
from pipeline.training.curve import Losses, PendingRecords
from pipeline.training.feed import Feed

Result = tuple[dict[str, Tensor], list[StepRecord]]
Train = Callable[..., Result]
Recipes = Mapping[str, Recipe]

CPU = torch.device("cpu")
RESIZED = ResizedCrop(kind="resized_crop", scale=(0.5, 1.0))


def bits(result: Result) -> tuple[dict[str, bytes], list[StepRecord]]:
    return {name: tensor.numpy().tobytes() for name, tensor in result[0].items()}, result[1]


def test_processes_see_the_parts_of_what_one_sees(make_images: Callable[..., LabelledImages]) -> None:
    batches = Batches(make_images(14), 7, RESIZED, 0)
    (whole,), *parts = (
        [Feed(batches, None, RESIZED, (24, 24), CPU, Processes(rank, count)).iterate(1, 2) for rank in range(count)]
        for count in (1, 3)
    )
    shares = [next(part).own for part in parts[0]]
    own = next(whole).own
    assert [share.whole for share in shares] == [own.whole] * 3 == [7] * 3
    assert own.images.shape == (7, 3, 24, 24)
    assert own.labels is not None
    for rank, share in enumerate(shares):
        assert share.labels is not None
        assert torch.equal(share.images, own.images[rank::3])
        assert torch.equal(share.labels, own.labels[rank::3])


@pytest.mark.parametrize("kind", ["weight", "cyclic"])
def test_images_may_stay_in_a_file(
    kind: str, train: Train, recipes: Recipes, make_images: Callable[..., LabelledImages], tmp_path: Path
) -> None:
    data = make_images(16)
    mapped = np.memmap(tmp_path / "images", np.uint8, "w+", shape=data.images.shape)
    mapped[:] = data.images
    assert bits(train(recipes[kind], LabelledImages(mapped, data.labels))) == bits(train(recipes[kind], data))


@pytest.mark.parametrize("kind", ["weight", "tangent", "cyclic"])
def test_small_images_are_cropped_to_the_models_size(
    kind: str, train: Train, recipes: Recipes, make_images: Callable[..., LabelledImages]
) -> None:
    """Images of the task are 20 pixels high, the others' 32; the model takes 32."""
    small = make_images(16, size=20)
    result = train(recipes[kind], small, augmentation=RESIZED)
    assert bits(result) == bits(train(recipes[kind], small, augmentation=RESIZED))
    assert bits(result) != bits(train(recipes[kind], small))  # shifted, and resized by the encoder
    assert all(np.isfinite(record.loss) for record in result[1])


@pytest.mark.parametrize("at_once", [1, 3, 4, 100])
@pytest.mark.parametrize("kind", ["tangent", "cyclic"])
def test_when_numbers_are_read_changes_none(
    at_once: int, kind: str, train: Train, recipes: Recipes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every step is reported once and in order, also with a file to resume from in between."""
    expected = bits(train(recipes[kind], epochs=5.0))
    read_together(monkeypatch, at_once)
    seen: list[StepRecord] = []
    resume = ResumeFile(tmp_path / "resume.safetensors", "key", 7)
    assert bits(train(recipes[kind], epochs=5.0, on_step=seen.append, resume=resume)) == expected
    assert seen == expected[1]
    again: list[StepRecord] = []
    assert bits(train(recipes[kind], epochs=5.0, on_step=again.append, resume=resume)) == expected
    assert again == expected[1][7:]


def read_together(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """As on a GPU."""
    monkeypatch.setattr(loop, "PendingRecords", lambda size: PendingRecords(at_once))


def test_a_loss_that_is_read_late_is_named_all_the_same(
    train: Train, recipes: Recipes, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_together(monkeypatch, 7)
    seen: list[StepRecord] = []
    with pytest.raises(UserError, match=r"^loss is nan at step 1 of 10 "):
        train(recipes["weight"], lr=1e30, epochs=5.0, on_step=seen.append)
    assert [record.step for record in seen] == [0]


def test_records_are_pending_until_they_are_read() -> None:
    """Numbers come back under their names, in whatever order they were named."""
    pending = PendingRecords(2)
    numbers = [torch.tensor(float(number), dtype=torch.float64) for number in range(8)]
    assert pending.read() == []
    pending.add(0, 0, 0.1, Losses(accuracy=numbers[0], loss=numbers[1], penalty=numbers[2]), numbers[3])
    assert not pending.is_full
    pending.add(1, 0, 0.2, Losses(numbers[4], numbers[5], numbers[6]), numbers[7].float())
    assert pending.is_full
    assert pending.read() == [
        StepRecord(step=0, epoch=0, loss=1.0, penalty=2.0, accuracy=0.0, lr=0.1, grad_norm=3.0),
        StepRecord(step=1, epoch=0, loss=4.0, penalty=5.0, accuracy=6.0, lr=0.2, grad_norm=7.0),
    ]
    assert not pending.is_full
