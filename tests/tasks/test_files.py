"""Splits and cards as files, and files that hold neither."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.images import LabelledImages, read_split, write_split
from pipeline.io.arrays import write_arrays
from pipeline.tasks import TaskCard, TaskDefinition, load_task


@pytest.fixture(scope="module")
def definition() -> TaskDefinition:
    return load_task("optdigits")


def numbered(n: int, start: int = 0) -> LabelledImages:
    """One-pixel images that hold their own number in base 256."""
    numbers = np.arange(start, start + n)
    images = np.stack([numbers // 65536, numbers // 256 % 256, numbers % 256], axis=1).astype(np.uint8)
    return LabelledImages(images[:, :, None, None], (numbers % 10).astype(np.int64))


def numbers(split: LabelledImages) -> list[int]:
    pixels = split.images[:, :, 0, 0].astype(int)
    return (pixels @ [65536, 256, 1]).tolist()


def test_split_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "val.safetensors"
    write_split(path, numbered(30), {"task": "optdigits"})
    split = read_split(path, classes=10)
    assert numbers(split) == list(range(30))
    assert split.labels.tolist() == [i % 10 for i in range(30)]


Arrays = dict[str, np.ndarray]
BROKEN: dict[str, tuple[Callable[[Arrays], Any], str]] = {
    "no labels": (lambda arrays: arrays.pop("labels"), "not a split"),
    "no images": (lambda arrays: arrays.pop("images"), "not a split"),
    "too few labels": (lambda arrays: arrays.update(labels=np.zeros(2, np.int64)), "30 images but 2 labels"),
    "label of no class": (lambda arrays: arrays["labels"].fill(10), "label 10 but only 10 classes"),
    "float images": (lambda arrays: arrays.update(images=np.zeros((30, 3, 1, 1), np.float32)), "float32"),
    "flat images": (lambda arrays: arrays.update(images=np.zeros((30, 3), np.uint8)), r"\(30, 3\)"),
    "float labels": (lambda arrays: arrays.update(labels=np.zeros(30, np.float32)), "float32"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_file_that_is_no_split(broken: str, tmp_path: Path) -> None:
    change, text = BROKEN[broken]
    path = tmp_path / "val.safetensors"
    arrays = {"images": numbered(30).images, "labels": numbered(30).labels}
    change(arrays)
    write_arrays(path, arrays, {})
    with pytest.raises(UserError, match=text) as error:
        read_split(path, classes=10)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_card_comes_back(definition: TaskDefinition, tmp_path: Path) -> None:
    card = TaskCard.of(definition, {"train": 45, "val": 5, "test": 5}, (28, 28), 0, {"test in train": 2}, {"train": 1})
    card.write(tmp_path / "card.json")
    assert TaskCard.read(tmp_path / "card.json") == card
    assert card.classes == definition.classes


@pytest.mark.parametrize(("text", "key"), [('{"name": "x"}', "version"), ("[]", ""), ('{"sede": 1}', "")])
def test_file_that_is_no_card(text: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        TaskCard.read(path)
    assert str(error.value).startswith(f"{path}: {key}")
    assert "\n" not in str(error.value)
