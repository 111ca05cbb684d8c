"""Splits: the rule that cuts val from train, and files that hold no proper split."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import PrepareSettings
from pipeline.errors import UserError
from pipeline.files import write_arrays
from pipeline.tasks import LabelledImages, TaskCard, TaskDefinition, load_task, prepare_splits, read_split, write_split

DEFAULT = PrepareSettings(val_fraction=0.1, val_max=5000, val_seed=0, max_images=None)


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


@given(st.integers(10, 400), st.sampled_from([0.1, 0.25]), st.integers(1, 30), st.integers(0, 2))
def test_val_is_cut_from_train(definition: TaskDefinition, n: int, fraction: float, most: int, seed: int) -> None:
    settings = PrepareSettings(val_fraction=fraction, val_max=most, val_seed=seed, max_images=None)
    splits = prepare_splits({"train": numbered(n), "test": numbered(5, start=n)}, definition, settings)
    train, val = numbers(splits["train"]), numbers(splits["val"])
    assert len(val) == min(int(fraction * n), most)
    assert sorted(train + val) == list(range(n))
    order = np.random.default_rng(seed).permutation(n)
    assert set(val) == set(order[: len(val)].tolist())
    assert numbers(splits["test"]) == list(range(n, n + 5))
    for split in splits.values():  # labels move with their images
        assert split.labels.tolist() == [number % 10 for number in numbers(split)]


def test_default_takes_a_tenth_but_at_most_5000(definition: TaskDefinition) -> None:
    sizes = {}
    for n in (1437, 50_000, 73_257):
        splits = prepare_splits({"train": numbered(n), "test": numbered(1)}, definition, DEFAULT)
        sizes[n] = len(splits["val"])
        assert len(splits["train"]) == n - sizes[n]
    assert sizes == {1437: 143, 50_000: 5000, 73_257: 5000}


def test_val_is_the_same_every_time_and_depends_on_its_seed(definition: TaskDefinition) -> None:
    def val(seed: int) -> list[int]:
        settings = DEFAULT.model_copy(update={"val_seed": seed})
        return numbers(prepare_splits({"train": numbered(200), "test": numbered(1)}, definition, settings)["val"])

    assert val(0) == val(0)
    assert val(0) != val(1)
    assert val(0) != list(range(20))


def test_shipped_val_is_kept(definition: TaskDefinition) -> None:
    raw = {"train": numbered(50), "val": numbered(7, start=50), "test": numbered(5, start=60)}
    splits = prepare_splits(raw, definition, DEFAULT)
    assert {name: numbers(split) for name, split in splits.items()} == {
        "train": list(range(50)),
        "val": list(range(50, 57)),
        "test": list(range(60, 65)),
    }


def test_max_images_limits_every_split_after_the_cut(definition: TaskDefinition) -> None:
    settings = DEFAULT.model_copy(update={"max_images": 12})
    whole = prepare_splits({"train": numbered(300), "test": numbered(5, start=300)}, definition, DEFAULT)
    limited = prepare_splits({"train": numbered(300), "test": numbered(5, start=300)}, definition, settings)
    assert {name: len(split) for name, split in limited.items()} == {"train": 12, "val": 12, "test": 5}
    for name, split in limited.items():
        assert numbers(split) == numbers(whole[name])[: len(split)]


@pytest.mark.parametrize("missing", ["train", "test"])
def test_missing_split(missing: str, definition: TaskDefinition) -> None:
    raw = {"train": numbered(50), "test": numbered(5)}
    del raw[missing]
    with pytest.raises(UserError, match=f"^task optdigits: its source has no '{missing}' split$"):
        prepare_splits(raw, definition, DEFAULT)


@pytest.mark.parametrize("empty", ["train", "val", "test"])
def test_empty_split(empty: str, definition: TaskDefinition) -> None:
    raw = {"train": numbered(50), "val": numbered(5), "test": numbered(5)}
    raw[empty] = numbered(0)
    with pytest.raises(UserError, match=f"^task optdigits, split {empty}: no images"):
        prepare_splits(raw, definition, DEFAULT)


def test_train_too_small_for_a_val(definition: TaskDefinition) -> None:
    with pytest.raises(UserError, match=r"^task optdigits, split val: no images"):
        prepare_splits({"train": numbered(9), "test": numbered(5)}, definition, DEFAULT)


@pytest.mark.parametrize(("label", "split"), [(10, "test"), (-1, "train"), (99, "val")])
def test_label_of_no_class(label: int, split: str, definition: TaskDefinition) -> None:
    raw = {"train": numbered(50), "val": numbered(5), "test": numbered(5)}
    raw[split].labels[3] = label
    with pytest.raises(UserError, match=f"^task optdigits, split {split}: label {label} but only 10 classes"):
        prepare_splits(raw, definition, DEFAULT)


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
    raw = {"train": numbered(50), "test": numbered(5)}
    card = TaskCard.of(definition, prepare_splits(raw, definition, DEFAULT))
    card.write(tmp_path / "card.json")
    assert TaskCard.read(tmp_path / "card.json") == card
    assert card.counts == {"train": 45, "val": 5, "test": 5}
    assert card.image_size == (1, 1)
    assert card.classes == definition.classes


@pytest.mark.parametrize(("text", "key"), [('{"name": "x"}', "version"), ("[]", ""), ('{"sede": 1}', "")])
def test_file_that_is_no_card(text: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        TaskCard.read(path)
    assert str(error.value).startswith(f"{path}: {key}")
    assert "\n" not in str(error.value)
