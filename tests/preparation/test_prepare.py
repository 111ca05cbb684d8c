"""Preparing from parquet files: sizes, labels, duplicates, broken images, in one stream."""

import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.config import PrepareSettings
from pipeline.errors import UserError
from pipeline.images import read_split
from pipeline.preparation import Destination, prepare, read_raw
from pipeline.preparation.decoding import decode
from pipeline.tasks import TaskCard, TaskDefinition
from tests.hub import encoded, parquet

SETTINGS = PrepareSettings(
    val_fraction=0.25, val_max=5000, val_seed=0, max_images=None, control_train_images=3, resolution=16
)


def defined(image_size: int | None = None, label: str = "label") -> TaskDefinition:
    splits = {
        "train": {"files": "*.parquet", "first": None},
        "val": None,
        "test": {"files": "*.parquet", "first": None},
    }
    source = {
        **{"kind": "hub", "repository": "a/b", "revision": "main", "image": "image", "label": label},
        **{"image_size": image_size, "splits": splits, "class_names": None},
    }
    content = {
        **{"name": "pets", "version": 2, "description": "pets", "classes": ["cat", "dog"], "templates": ["a {}"]},
        **{"source": source, "origin": "here", "licence": "none", "citation": "none"},
    }
    return TaskDefinition.model_validate(content)


def picture(seed: int, height: int = 20, width: int = 30) -> bytes:
    return encoded(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


TRAIN = [picture(i, 17 + i % 5, 16 + i % 7) for i in range(24)]
TEST = [picture(100 + i) for i in range(6)]


class Task:
    """Raw files and what is made of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("train", [TRAIN[:11], TRAIN[11:]])
        self.write("test", [TEST])

    def write(
        self, split: str, shards: list[list[bytes]], labels: Callable[[int], int | None] = lambda i: i % 2
    ) -> None:
        directory = self.root / "raw" / split
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        first = 0
        for number, images in enumerate(shards):
            content = parquet(images, [labels(first + i) for i in range(len(images))], ["cat", "dog"])
            (directory / f"{number:05}.parquet").write_bytes(content)
            first += len(images)

    def prepare(self, definition: TaskDefinition | None = None, control: bool = False, **settings: Any) -> TaskCard:
        definition = definition or defined()
        destination = Destination(lambda name: self.root / f"{name}.safetensors", self.root / "card.json")
        raw = read_raw(definition, self.root / "raw")
        return prepare(definition, raw, destination, SETTINGS.model_copy(update=settings), control)

    def images(self, split: str) -> np.ndarray:
        return read_split(self.root / f"{split}.safetensors", 2).images

    def labels(self, split: str) -> list[int]:
        return read_split(self.root / f"{split}.safetensors", 2).labels.tolist()

    def refused(self, definition: TaskDefinition | None = None, **settings: Any) -> str:
        with pytest.raises(UserError) as error:
            self.prepare(definition, **settings)
        line = str(error.value)
        assert "\n" not in line
        assert not (self.root / "card.json").exists()
        assert not [path.name for path in self.root.iterdir() if path.name.startswith(".")]
        return line


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task(tmp_path)


def test_images_and_labels_are_those_of_the_files(task: Task) -> None:
    card = task.prepare()
    order = np.random.default_rng(0).permutation(24)
    expected = {"val": np.sort(order[:6]), "train": np.sort(order[6:])}
    for split, indices in expected.items():
        np.testing.assert_array_equal(task.images(split), [decode(TRAIN[i], 16, None) for i in indices])
        assert task.labels(split) == [i % 2 for i in indices]
    np.testing.assert_array_equal(task.images("test"), [decode(content, 16, None) for content in TEST])
    assert card == TaskCard.read(task.root / "card.json")
    assert card.counts == {"train": 18, "val": 6, "test": 6}
    assert card.image_size == (16, 16)
    assert card.val_seed == 0
    assert card.duplicates == {"val in train": 0, "test in train": 0, "test in val": 0}


def test_the_same_bytes_with_any_number_of_threads(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    task.prepare()
    before = {path.name: path.read_bytes() for path in task.root.glob("*.safetensors")}
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(7))
    task.prepare()
    assert {path.name: path.read_bytes() for path in task.root.glob("*.safetensors")} == before


def test_shipped_val_is_kept(task: Task) -> None:
    task.write("val", [[picture(200), picture(201)]])
    card = task.prepare()
    assert card.counts == {"train": 24, "val": 2, "test": 6}
    assert card.val_seed is None
    np.testing.assert_array_equal(task.images("train"), [decode(content, 16, None) for content in TRAIN])


def test_only_the_chosen_images_of_the_control_are_decoded(task: Task) -> None:
    card = task.prepare(control=True)
    assert card.counts == {"train": 3, "val": 6, "test": 6}


@pytest.mark.parametrize(("resolution", "expected"), [(16, 12), (12, 12), (None, 12), (8, 8)])
def test_smaller_images_of_one_size_are_kept(resolution: int | None, expected: int, task: Task) -> None:
    for split in ("train", "test"):
        task.write(split, [[picture(i, 12, 12) for i in range(8)]])
    card = task.prepare(defined(image_size=12), resolution=resolution)
    assert card.image_size == (expected, expected)
    assert task.images("test").shape[-2:] == (expected, expected)


def test_images_of_different_sizes_need_a_resolution(task: Task) -> None:
    line = task.refused(resolution=None)
    assert line == "task pets: its images differ in size, and prepare.resolution is null; set it to the model's"


def test_an_image_of_another_size_than_promised(task: Task) -> None:
    task.write("train", [[picture(i, 12, 12 + (i == 4)) for i in range(8)]])
    task.write("test", [[picture(i, 12, 12) for i in range(8)]])
    line = task.refused(defined(image_size=12), val_fraction=0.2)
    assert line.startswith("task pets, split train: image 4 (4.png) of 00000.parquet: is 12 x 13, but its task says")


@pytest.mark.parametrize("content", [b"no image", picture(1)[:200], None])
def test_a_broken_image_is_named(content: bytes | None, task: Task) -> None:
    images: list[Any] = [*TEST]
    images[4] = content
    task.write("test", [[TEST[0]] * 5, images])
    line = task.refused()
    assert line.startswith("task pets, split test: image 9 (4.png) of 00001.parquet: ")
    assert "cannot be decoded" in line or "has no content" in line


@pytest.mark.parametrize(("label", "message"), [(2, "label 2 but only 2 classes"), (-1, "label -1 but only 2 classes")])
def test_label_of_no_class(label: int, message: str, task: Task) -> None:
    task.write("test", [TEST], lambda i: label if i == 3 else 0)
    assert f"task pets, split test: {message}" in task.refused()


def test_image_without_a_label(task: Task) -> None:
    task.write("test", [TEST], lambda i: None if i == 3 else 0)
    assert task.refused().endswith("00000.parquet: 1 images have no label")


def test_column_that_is_not_there(task: Task) -> None:
    assert "no column 'fine_label'; it has image, label" in task.refused(defined(label="fine_label"))


def test_damaged_file(task: Task) -> None:
    path = task.root / "raw" / "train" / "00001.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    assert task.refused().startswith(f"{path}: damaged or not a parquet file")


def test_duplicates_are_counted_said_and_kept(task: Task, capsys: pytest.CaptureFixture) -> None:
    task.write("val", [[TRAIN[3], picture(50), TRAIN[3]]])
    task.write("test", [[*TEST, TRAIN[0], TRAIN[3], *TEST[:2]]])
    card = task.prepare()
    assert card.duplicates == {"val in train": 2, "test in train": 2, "test in val": 1}
    assert card.counts == {"train": 24, "val": 3, "test": 10}
    output = capsys.readouterr().out
    assert "warning: task pets: 2 images of val are in train too, to the pixel" in output
    assert "warning: task pets: 1 images of test are in val too, to the pixel" in output


def test_one_image_in_two_classes_is_said(task: Task, capsys: pytest.CaptureFixture) -> None:
    """A hard link or a copy of an image in another class's directory was packed with two labels and no word."""
    task.write("train", [[TRAIN[0], TRAIN[0], TRAIN[1], TRAIN[2], TRAIN[2], *TRAIN[3:]]], lambda i: min(i, 1))
    task.write("val", [[picture(50)]])
    card = task.prepare()
    assert card.two_labels == {"train": 2, "val": 0, "test": 0}
    assert "warning: task pets: 2 images of train are in two classes, to the pixel" in capsys.readouterr().out


def test_the_same_pixels_in_another_file_are_a_duplicate(task: Task) -> None:
    with_text = encoded(decode(TRAIN[0], 16, None).transpose(1, 2, 0))
    again = encoded(decode(TRAIN[0], 16, None).transpose(1, 2, 0), "BMP")
    assert with_text != again
    task.write("train", [[with_text, *TRAIN[1:]]])
    task.write("test", [[again, *TEST]])
    card = task.prepare()
    assert card.duplicates["test in train"] + card.duplicates["test in val"] == 1


def test_absent_classes_are_said(task: Task, capsys: pytest.CaptureFixture) -> None:
    task.write("test", [TEST], lambda i: 1)
    task.prepare()
    assert "warning: task pets: test has no image of 1 of the 2 classes" in capsys.readouterr().out


def test_a_disk_that_is_too_small(task: Task, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=30 * 3 * 16 * 16 - 1))
    line = task.refused()
    assert line.startswith(f"task pets: its packed images: 0.00 GB are needed at {task.root}")
    message = "pets: train 18, val 6, test 6 images of 16 x 16 pixels take 0.00 GB"
    assert message in capsys.readouterr().out
    assert list(task.root.glob("*.safetensors")) == []


def test_memory_is_bounded(task: Task) -> None:
    """Packing 90 MB of images takes a fraction of that at any time."""
    large = encoded(np.zeros((400, 400, 3), np.uint8))
    task.write("train", [[large] * 100, [large] * 100])
    tracemalloc.start()
    task.prepare(resolution=400)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (task.root / "train.safetensors").stat().st_size > 70_000_000
    assert peak < 70_000_000


def test_pixels_of_pillow_are_what_is_stored(task: Task) -> None:
    """Channels first, red before green."""
    task.write("test", [[encoded(np.full((16, 16, 3), (10, 20, 30), np.uint8))]])
    task.prepare()
    assert task.images("test")[0, :, 0, 0].tolist() == [10, 20, 30]
    assert Image.fromarray(task.images("test")[0].transpose(1, 2, 0)).getpixel((0, 0)) == (10, 20, 30)
