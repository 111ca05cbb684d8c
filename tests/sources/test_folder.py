"""A folder of images as a task: what a practitioner brings."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UserError
from pipeline.preparation import read_raw
from pipeline.sources.download import Roots, download
from pipeline.sources.record import Record
from pipeline.tasks import TaskDefinition
from tests.hub import encoded


def defined(**changes: Any) -> TaskDefinition:
    source = {
        **{"kind": "folder", "path": "photos", "directories": None, "image_size": None, "test_fraction": 0.25},
        **changes,
    }
    content = {
        **{"name": "pets", "version": 1, "description": "pets", "classes": ["dog", "guinea pig"]},
        **{"templates": ["a {}"], "source": source, "origin": "here", "licence": "none", "citation": "none"},
    }
    return TaskDefinition.model_validate(content)


def picture(seed: int) -> bytes:
    return encoded(np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8))


class Folder:
    """Images and what is made of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.raw = root / "raw"
        self.count = 0

    def add(self, directory: str, *names: str) -> None:
        for name in names:
            path = self.root / "photos" / directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(self.count))
            self.count += 1

    def pack(self, known: Record | None = None, **changes: Any) -> Record:
        return download(defined(**changes), Roots(self.root, Path()), self.raw, known)

    def rows(self, split: str) -> list[tuple[str, int]]:
        table = pq.read_table(self.raw / split / "images.parquet").to_pylist()
        for row in table:
            assert row["image"]["bytes"] == (self.root / "photos" / row["image"]["path"]).read_bytes()
        return [(row["image"]["path"], row["label"]) for row in table]

    def refused(self, **changes: Any) -> str:
        with pytest.raises(UserError) as error:
            self.pack(**changes)
        assert list(self.raw.parent.glob(".raw*")) == []
        assert not self.raw.exists()
        line = str(error.value)
        assert "\n" not in line
        return line


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_split_directories(folder: Folder) -> None:
    for split in ("train", "validation", "test"):
        folder.add(f"{split}/guinea_pig", "b.png", "a.png")
        folder.add(f"{split}/dog", "x.JPG")
    folder.pack()
    assert folder.rows("train") == [
        ("train/dog/x.JPG", 0),
        ("train/guinea_pig/a.png", 1),
        ("train/guinea_pig/b.png", 1),
    ]
    assert [label for _, label in folder.rows("val")] == [0, 1, 1]
    assert [label for _, label in folder.rows("test")] == [0, 1, 1]
    raw = read_raw(defined(), folder.raw)
    assert {name: len(split.labels) for name, split in raw.items()} == {"train": 3, "val": 3, "test": 3}


def test_without_split_directories_test_is_cut_off(folder: Folder) -> None:
    folder.add("dog", *(f"{i}.png" for i in range(30)))
    folder.add("guinea pig", *(f"{i}.png" for i in range(10)))
    folder.pack()
    train, test = folder.rows("train"), folder.rows("test")
    assert len(test) == 10
    assert len(train) == 30
    assert not set(train) & set(test)
    assert {label for _, label in test} == {0, 1}  # of all, not the last ones
    before = (folder.raw / "test" / "images.parquet").read_bytes()
    folder.pack()
    assert (folder.raw / "test" / "images.parquet").read_bytes() == before


def test_directories_with_other_names(folder: Folder) -> None:
    folder.add("n02", "1.png", "2.png", "3.png", "4.png")
    folder.add("n01", "1.png")
    folder.pack(directories=["n02", "n01"])
    assert sorted(folder.rows("train") + folder.rows("test"))[0] == ("n01/1.png", 1)


def test_images_below_a_class(folder: Folder) -> None:
    folder.add("train/dog/left", "1.png")
    folder.add("train/guinea pig", "1.png")
    folder.add("test/dog", "1.png")
    folder.add("test/guinea pig", "1.png")
    folder.pack()
    assert folder.rows("train")[0] == ("train/dog/left/1.png", 0)


def test_what_is_no_image_is_said(folder: Folder, capsys: pytest.CaptureFixture) -> None:
    folder.add("dog", "1.png", "notes.txt", ".DS_Store", "2.png", "3.png", "4.png")
    folder.add("guinea pig", "1.png")
    folder.add(".thumbnails", "1.png")
    folder.pack()
    said = capsys.readouterr().out
    assert "warning: task pets: 1 files are no images and left out, such as " in said
    assert said.rstrip().endswith("notes.txt")


def test_changed_images_are_said_and_recorded(folder: Folder, capsys: pytest.CaptureFixture) -> None:
    folder.add("dog", "1.png", "2.png", "3.png")
    folder.add("guinea pig", "1.png")
    record = folder.pack()
    assert folder.pack(record) == record
    assert "warning" not in capsys.readouterr().out
    folder.add("dog", "1.png")
    assert folder.pack(record).files != record.files
    assert "its images are others than those recorded before" in capsys.readouterr().out


def test_absolute_path(folder: Folder, tmp_path: Path) -> None:
    folder.add("dog", "1.png", "2.png", "3.png")
    folder.add("guinea pig", "1.png")
    folder.pack(path=str(tmp_path / "photos"))
    assert len(folder.rows("train")) == 3


def test_no_directory(folder: Folder) -> None:
    assert folder.refused() == f"task pets: {folder.root / 'photos'}: no such directory; correct source.path"


@pytest.mark.parametrize(
    ("directories", "said"),
    [
        (["dog"], "no directory 'guinea_pig'"),
        (["dog", "guinea pig", "cat"], "'cat' is no class"),
        (["dog", "cavy"], "no directory 'guinea_pig' and 'cavy' is no class"),
    ],
)
def test_directories_that_are_not_the_classes(directories: list[str], said: str, folder: Folder) -> None:
    for name in directories:
        folder.add(name, "1.png")
    line = folder.refused()
    assert said in line
    assert line.endswith("name the directories as the classes, or list them in source.directories")


def test_test_without_train(folder: Folder) -> None:
    folder.add("test/dog", "1.png")
    folder.add("test/guinea pig", "1.png")
    assert "has test but no train" in folder.refused()
