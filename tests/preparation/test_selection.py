"""The choice of images for train, val and test."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import PrepareSettings
from pipeline.errors import UserError
from pipeline.images import LabelledImages, Split
from pipeline.preparation.raw import PackedSplit
from pipeline.preparation.selection import choose_splits

DEFAULT = PrepareSettings(
    val_fraction=0.1, val_max=5000, val_seed=0, max_images=None, control_train_images=None, resolution=None
)


def numbered(n: int, start: int = 0) -> LabelledImages:
    """One-pixel images that hold their own number in base 256."""
    numbers = np.arange(start, start + n)
    images = np.stack([numbers // 65536, numbers // 256 % 256, numbers % 256], axis=1).astype(np.uint8)
    return LabelledImages(images[:, :, None, None], (numbers % 10).astype(np.int64))


def selected(
    raw: Mapping[str, LabelledImages], settings: PrepareSettings, control: bool = False, shuffled: bool = True
) -> dict[Split, LabelledImages]:
    """The images themselves."""
    splits = choose_splits({n: PackedSplit(s, shuffled) for n, s in raw.items()}, 10, settings, control, "task digits")
    contents = {}
    for name, split in splits.items():
        assert isinstance(split.raw, PackedSplit)
        assert (np.diff(split.indices) > 0).all()
        contents[name] = split.raw.content.take(split.indices)
        assert split.labels.tolist() == contents[name].labels.tolist()
    return contents


def numbers(split: LabelledImages) -> list[int]:
    pixels = split.images[:, :, 0, 0].astype(int)
    return (pixels @ [65536, 256, 1]).tolist()


@given(st.integers(10, 400), st.sampled_from([0.1, 0.25]), st.integers(1, 30), st.integers(0, 2))
def test_val_is_cut_from_train(n: int, fraction: float, most: int, seed: int) -> None:
    settings = DEFAULT.model_copy(update={"val_fraction": fraction, "val_max": most, "val_seed": seed})
    splits = selected({"train": numbered(n), "test": numbered(5, start=n)}, settings)
    train, val = numbers(splits["train"]), numbers(splits["val"])
    assert len(val) == min(int(fraction * n), most)
    assert sorted(train + val) == list(range(n))
    order = np.random.default_rng(seed).permutation(n)
    assert set(val) == set(order[: len(val)].tolist())
    assert numbers(splits["test"]) == list(range(n, n + 5))
    for split in splits.values():  # labels move with their images
        assert split.labels.tolist() == [number % 10 for number in numbers(split)]


def test_default_takes_a_tenth_but_at_most_5000() -> None:
    sizes = {}
    for n in (1437, 50_000, 73_257):
        splits = selected({"train": numbered(n), "test": numbered(1)}, DEFAULT)
        sizes[n] = len(splits["val"])
        assert len(splits["train"]) == n - sizes[n]
    assert sizes == {1437: 143, 50_000: 5000, 73_257: 5000}


def test_val_is_the_same_every_time_and_depends_on_its_seed() -> None:
    def val(seed: int) -> list[int]:
        settings = DEFAULT.model_copy(update={"val_seed": seed})
        return numbers(selected({"train": numbered(200), "test": numbered(1)}, settings)["val"])

    assert val(0) == val(0)
    assert val(0) != val(1)
    assert val(0) != list(range(20))


def test_shipped_val_is_kept() -> None:
    raw = {"train": numbered(50), "val": numbered(7, start=50), "test": numbered(5, start=60)}
    splits = selected(raw, DEFAULT)
    assert {name: numbers(split) for name, split in splits.items()} == {
        "train": list(range(50)),
        "val": list(range(50, 57)),
        "test": list(range(60, 65)),
    }


def test_max_images_limits_every_split_after_the_cut() -> None:
    settings = DEFAULT.model_copy(update={"max_images": 12})
    whole = selected({"train": numbered(300), "test": numbered(5, start=300)}, DEFAULT)
    limited = selected({"train": numbered(300), "test": numbered(5, start=300)}, settings)
    assert {name: len(split) for name, split in limited.items()} == {"train": 12, "val": 12, "test": 5}
    for name, split in limited.items():
        assert numbers(split) == numbers(whole[name])[: len(split)]


def test_of_a_source_that_is_sorted_images_are_drawn_at_random() -> None:
    settings = DEFAULT.model_copy(update={"max_images": 40})
    raw = {"train": numbered(500), "test": numbered(500, start=500)}
    whole, limited = (selected(raw, s, shuffled=False) for s in (DEFAULT, settings))
    for name, split in limited.items():
        assert set(numbers(split)) < set(numbers(whole[name]))
        assert len(split) == 40
        assert np.median(numbers(split)) == pytest.approx(np.median(numbers(whole[name])), abs=100)
    again = selected(raw, settings, shuffled=False)
    assert {name: numbers(split) for name, split in again.items()} == {n: numbers(s) for n, s in limited.items()}


def test_only_the_controls_train_is_a_sample() -> None:
    settings = DEFAULT.model_copy(update={"control_train_images": 30})
    raw = {"train": numbered(500), "test": numbered(200, start=500)}
    task, control = (selected(raw, settings, control=is_control, shuffled=False) for is_control in (False, True))
    assert {name: len(split) for name, split in task.items()} == {"train": 450, "val": 50, "test": 200}
    assert {name: len(split) for name, split in control.items()} == {"train": 30, "val": 50, "test": 200}
    assert numbers(control["val"]) == numbers(task["val"])
    assert set(numbers(control["train"])) < set(numbers(task["train"]))


@pytest.mark.parametrize("missing", ["train", "test"])
def test_missing_split(missing: str) -> None:
    raw = {"train": numbered(50), "test": numbered(5)}
    del raw[missing]
    with pytest.raises(UserError, match=f"^task digits: its source has no '{missing}' split$"):
        selected(raw, DEFAULT)


@pytest.mark.parametrize("empty", ["train", "val", "test"])
def test_empty_split(empty: str) -> None:
    raw = {"train": numbered(50), "val": numbered(5), "test": numbered(5)}
    raw[empty] = numbered(0)
    with pytest.raises(UserError, match=f"^task digits, split {empty}: no images"):
        selected(raw, DEFAULT)


def test_train_too_small_for_a_val() -> None:
    with pytest.raises(UserError, match=r"^task digits, split val: no images"):
        selected({"train": numbered(9), "test": numbered(5)}, DEFAULT)


@pytest.mark.parametrize(("label", "split"), [(10, "test"), (-1, "train"), (99, "val")])
def test_label_of_no_class(label: int, split: str) -> None:
    raw = {"train": numbered(50), "val": numbered(5), "test": numbered(5)}
    raw[split].labels[3] = label
    with pytest.raises(UserError, match=f"^task digits, split {split}: label {label} but only 10 classes"):
        selected(raw, DEFAULT)
