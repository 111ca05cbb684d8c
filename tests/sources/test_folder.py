"""A folder of images as a task: what a practitioner brings."""

import errno
import os
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UserError
from pipeline.preparation import read_raw
from pipeline.sources.download import Roots, download
from pipeline.sources.record import DownloadRecord
from pipeline.tasks import TaskDefinition
from tests.hub import encoded


def defined(classes: Sequence[str] = ("dog", "guinea pig"), **changes: Any) -> TaskDefinition:
    source = {
        **{"kind": "folder", "path": "photos", "directories": None, "image_size": None, "test_fraction": 0.25},
        **changes,
    }
    content = {
        **{"name": "pets", "version": 1, "description": "pets", "classes": list(classes)},
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

    def pack(self, known: DownloadRecord | None = None, **changes: Any) -> DownloadRecord:
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
    output = capsys.readouterr().out
    assert "left out: 2 hidden (dog/.DS_Store, .thumbnails/1.png), 1 not named as an image (dog/notes.txt)" in output


def test_changed_images_are_said_and_recorded(folder: Folder, capsys: pytest.CaptureFixture) -> None:
    folder.add("dog", "1.png", "2.png", "3.png")
    folder.add("guinea pig", "1.png")
    record = folder.pack()
    assert folder.pack(record) == record
    assert "warning" not in capsys.readouterr().out
    folder.add("dog", "1.png")
    assert folder.pack(record).files != record.files
    assert "its images differ from those recorded before" in capsys.readouterr().out


def test_absolute_path(folder: Folder, tmp_path: Path) -> None:
    folder.add("dog", "1.png", "2.png", "3.png")
    folder.add("guinea pig", "1.png")
    folder.pack(path=str(tmp_path / "photos"))
    assert len(folder.rows("train")) == 3


def test_no_directory(folder: Folder) -> None:
    assert folder.refused() == f"task pets: {folder.root / 'photos'}: no such directory; correct source.path"


@pytest.mark.parametrize(
    ("directories", "message"),
    [
        (["dog"], "no directory 'guinea pig'"),
        (["dog", "guinea pig", "cat"], "'cat' is not a class"),
        (["dog", "cavy"], "no directory 'guinea pig' and 'cavy' is not a class"),
    ],
)
def test_directories_that_are_not_the_classes(directories: list[str], message: str, folder: Folder) -> None:
    for name in directories:
        folder.add(name, "1.png")
    line = folder.refused()
    assert message in line
    assert line.endswith("name the directories as the classes, or list them in source.directories")


def test_test_without_train(folder: Folder) -> None:
    folder.add("test/dog", "1.png")
    folder.add("test/guinea pig", "1.png")
    assert "has test but no train" in folder.refused()


CLASSES = ("dog", "guinea pig")


def fill(folder: Folder, *directories: str, images: int = 8) -> None:
    """Add images of both classes to each directory."""
    for directory in directories:
        for name in CLASSES:
            folder.add(f"{directory}/{name}", *(f"{i}.png" for i in range(images)))


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "valid", "test"),
        ("Train", "Val", "Test"),
        ("TRAINING", "VALIDATION", "TESTING"),
        ("training_set", "dev", "test_set"),
        ("train2017", "val2017", "eval"),
        ("Training Data", "development", "evaluation"),
        ("train-images", "validate", "Test"),
    ],
)
def test_usual_names_of_splits(train: str, val: str, test: str, folder: Folder) -> None:
    fill(folder, train, images=8)
    fill(folder, val, images=2)
    fill(folder, test, images=3)
    record = folder.pack()
    assert {split: len(folder.rows(split)) for split in ("train", "val", "test")} == {"train": 16, "val": 4, "test": 6}
    assert all(path.startswith(f"{test}/") for path, _ in folder.rows("test"))
    assert record.counts is not None
    assert {split: counts.images for split, counts in record.counts.items()} == {"train": 16, "val": 4, "test": 6}


def test_classes_may_be_called_as_splits(folder: Folder) -> None:
    classes = ("bus", "train", "Test")
    for name in classes:
        folder.add(name, *(f"{i}.png" for i in range(8)))
    download(defined(classes), Roots(folder.root, Path()), folder.raw, None)
    assert {label for _, label in folder.rows("train")} == {0, 1, 2}


def linked(target: str, link: str) -> Callable[[Folder], None]:
    def build(folder: Folder) -> None:
        fill(folder, ".")
        photos = folder.root / "photos"
        (photos / link).symlink_to(photos / target)

    return build


def both_forms(folder: Folder) -> None:
    fill(folder, ".")
    folder.add("guinea_pig", "1.png")


def latin_1(folder: Folder) -> None:
    fill(folder, ".")
    file = folder.root / "photos" / "dog" / "0.png"
    file.rename(file.with_name(os.fsdecode(b"caf\xe9.png")))


AMBIGUOUS: dict[str, tuple[Callable[[Folder], object], str]] = {
    "two names of val": (lambda folder: fill(folder, "train", "val", "Valid"), "means val, as 'Valid' does"),
    "two names of test": (lambda folder: fill(folder, "train", "test", "eval"), "means test, as 'eval' does"),
    "numbered parts": (lambda folder: fill(folder, "train1", "train2"), "means train, as 'train1' does"),
    "classes beside train": (
        lambda folder: fill(folder, "train", "."),
        "photos/dog stands beside directories of splits",
    ),
    "classes beside test": (lambda folder: fill(folder, "Test", "."), "photos/dog stands beside directories of splits"),
    "others beside train": (
        lambda folder: fill(folder, "train", "unlabelled"),
        "photos/unlabelled stands beside directories of splits ('train')",
    ),
    "splits below classes": (
        lambda folder: [fill(folder, "."), folder.add("dog/test", "1.png")],
        "dog/test is called as a split but lies below a class",
    ),
    "class below a class": (
        lambda folder: [fill(folder, "."), folder.add("dog/guinea_pig", "1.png")],
        "dog/guinea_pig is called as a class but lies below another one",
    ),
    "image beside classes": (
        lambda folder: [fill(folder, "."), folder.add(".", "loose.png")],
        "loose.png is an image outside the directories of classes",
    ),
    "image beside splits": (
        lambda folder: [fill(folder, "train"), folder.add(".", "loose.png")],
        "loose.png is an image outside the directories of classes",
    ),
    "image beside classes of a split": (
        lambda folder: [fill(folder, "train", "test"), folder.add("test", "loose.JPG")],
        "test/loose.JPG is an image outside the directories of classes",
    ),
    "class under two names": (both_forms, "is the same class as 'guinea pig'"),
    "link to a parent": (linked("dog", "dog/again"), "dog/again is the same directory as dog"),
    "link to the folder": (linked(".", "dog/all"), "dog/all is a link to a directory that contains it"),
    "link above the folder": (linked("..", "dog/all"), "dog/all is a link to a directory that contains it"),
    "link to another class": (linked("guinea pig", "dog/more"), "guinea pig is the same directory as dog/more"),
    "link to another image": (
        linked("dog/0.png", "guinea pig/x.png"),
        "guinea pig/x.png is the same file as dog/0.png",
    ),
    "link to nothing": (linked("nowhere.png", "dog/x.png"), "dog/x.png is a link that leads nowhere"),
    "link to no directory": (linked("nowhere", "dog/more"), "dog/more is a link that leads nowhere"),
    "link to nothing beside classes": (linked("nowhere", "notes"), "notes is a link that leads nowhere"),
    "link to nothing as val": (
        lambda folder: [fill(folder, "train", "test"), (folder.root / "photos" / "val").symlink_to("val")],
        "photos/val is a link that leads nowhere; mend or delete it",
    ),
    "link to nothing as test": (
        lambda folder: [fill(folder, "train"), (folder.root / "photos" / "test").symlink_to("/nowhere")],
        "photos/test is a link that leads nowhere; mend or delete it",
    ),
    "link to nothing beside classes of a split": (
        lambda folder: [fill(folder, "train"), (folder.root / "photos" / "train" / "x").symlink_to("/nowhere")],
        "train/x is a link that leads nowhere",
    ),
    "link to nothing in a directory without images": (
        lambda folder: [
            fill(folder, "train"),
            folder.add("papers", "a.txt"),
            (folder.root / "photos" / "papers" / "x").symlink_to("/nowhere"),
        ],
        "papers/x is a link that leads nowhere",
    ),
    "link to a directory in a directory without images": (
        lambda folder: [
            fill(folder, "train"),
            folder.add("papers", "a.txt"),
            (folder.root / "photos" / "papers" / "x").symlink_to(folder.root),
        ],
        "photos/papers stands beside directories of splits",
    ),
    "file called test beside train": (
        lambda folder: [fill(folder, "train"), folder.add(".", "Test")],
        "photos/Test means test but is not a directory; put the directory in its place, or delete it",
    ),
    "file called val beside classes": (
        lambda folder: [fill(folder, "."), folder.add(".", "val")],
        "photos/val means val but is not a directory",
    ),
    "images of another format beside train": (
        lambda folder: [fill(folder, "train"), folder.add("heldout/x", "1.heic")],
        "photos/heldout stands beside directories of splits",
    ),
    "classes without images beside train": (
        lambda folder: [fill(folder, "train"), folder.add("heldout/guinea_pig", "1")],
        "photos/heldout stands beside directories of splits ('train'); move it into one of them or out of the folder",
    ),
    "image of another format": (
        lambda folder: [fill(folder, "."), folder.add("dog", "1.HEIC")],
        "dog/1.HEIC is an image of a format that cannot be read; convert it to PNG or JPEG",
    ),
    "image of another format beside classes": (
        lambda folder: [fill(folder, "train"), folder.add("train", "1.avif")],
        "train/1.avif is an image of a format that cannot be read; convert it to PNG or JPEG",
    ),
    "link to itself": (linked("dog/x.png", "dog/x.png"), "dog/x.png is a link that leads nowhere"),
    "name in Latin-1": (latin_1, "dog/caf\\xe9.png has a name that is not UTF-8"),
    "no images": (
        lambda folder: fill(folder, ".", images=0) or folder.add("dog", "1.png"),
        "does not hold the classes",
    ),
    "too few images for test": (lambda folder: fill(folder, ".", images=1), "too few images for test"),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_ambiguous_folders_are_refused_by_name(case: str, folder: Folder) -> None:
    build, text = AMBIGUOUS[case]
    build(folder)
    line = folder.refused()
    assert text in line
    assert line.isprintable()


def test_the_folder_may_be_a_link(folder: Folder) -> None:
    fill(folder, "train", "test")
    (folder.root / "photos").rename(folder.root / "elsewhere")
    (folder.root / "photos").symlink_to(folder.root / "elsewhere")
    folder.pack()
    assert len(folder.rows("train")) == 16


@pytest.mark.parametrize("places", [("train/dog", "test/dog"), ("train/dog", "train/guinea pig")])
def test_an_image_outside_the_folder_that_is_linked_twice_is_refused(places: tuple[str, str], folder: Folder) -> None:
    """It would be in train and test, or of two classes."""
    fill(folder, "train", "test")
    outside = folder.root / "outside.png"
    (folder.root / "photos" / "train" / "dog" / "0.png").rename(outside)
    for place in places:
        (folder.root / "photos" / place / "linked.png").symlink_to(outside)
    with pytest.raises(UserError, match=r"linked\.png is the same file as .*linked\.png; delete the link"):
        folder.pack()


@pytest.mark.parametrize("target", ["class", "below", "file"])
def test_links_out_of_the_folder_are_followed(target: str, folder: Folder) -> None:
    fill(folder, ".")
    photos, outside = folder.root / "photos", folder.root / "outside"
    (photos / "dog").rename(outside)
    link = photos / "dog" if target == "class" else photos / "dog" / ("more" if target == "below" else "0.png")
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(outside / "0.png" if target == "file" else outside)
    folder.pack()
    assert len(folder.rows("train") + folder.rows("test")) == (9 if target == "file" else 16)


@pytest.mark.parametrize(
    "path",
    [
        *("dog/.ipynb_checkpoints/1.png", "dog/__MACOSX/1.png", "dog/._0.png", "dog/@eaDir/a/b/1.jpg", "Thumbs.db"),
        *(".DS_Store", ".git/1.png", "__MACOSX/dog/1.png", "dog/deep/.hidden/1.png", "dog/Thumbs.db"),
    ],
)
@pytest.mark.parametrize("split", ["", "train/"])
def test_hidden_files_are_left_out_and_named(
    path: str, split: str, folder: Folder, capsys: pytest.CaptureFixture
) -> None:
    fill(folder, *(["train", "test"] if split else ["."]))
    folder.add(str(Path(split + path).parent), Path(path).name)
    record = folder.pack()
    packed = [name for name, _ in folder.rows("train") + folder.rows("test")]
    assert split + path not in packed
    assert f"left out: 1 hidden ({split}{path})" in capsys.readouterr().out
    assert record.counts is not None
    assert record.counts["train"].left_out == {"hidden": 1}
    files = [file for file in (folder.root / "photos").rglob("*") if file.is_file()]
    assert len(files) == len(packed) + 1


def test_every_file_is_packed_or_left_out(folder: Folder) -> None:
    fill(folder, ".")
    folder.add("dog", *(f"x.{suffix}" for suffix in ("JPG", "JFIF", "jpe", "pbm", "raw", "zip", "png ", "txt")), "x")
    os.mkfifo(folder.root / "photos" / "dog" / "pipe.png")
    record = folder.pack()
    assert record.counts is not None
    assert record.counts["train"].left_out == {"not named as an image": 5, "not a file": 1}
    assert sum(counts.images for counts in record.counts.values()) == 16 + 4


def test_directories_in_another_unicode_form(folder: Folder) -> None:
    for name in (unicodedata.normalize("NFD", "caf\u00e9"), "th\u00e9"):
        folder.add(name, *(f"{i}.png" for i in range(4)))
    classes = ("caf\u00e9", unicodedata.normalize("NFD", "th\u00e9"))
    download(defined(classes), Roots(folder.root, Path()), folder.raw, None)
    assert {label for _, label in folder.rows("train")} == {0, 1}


def test_each_split_says_what_it_holds(folder: Folder, capsys: pytest.CaptureFixture) -> None:
    fill(folder, "Training")
    folder.add("Training/dog", "notes.txt")
    folder.add("papers", "licence.txt")
    folder.pack()
    assert capsys.readouterr().out.splitlines() == [
        "task pets, split train: 12 images from Training/; left out: 1 not named as an image (Training/dog/notes.txt), "
        "1 in a directory without images (papers/licence.txt)",
        "task pets, split test: 4 images drawn at random, as there is no directory of test images; left out: nothing",
    ]


def test_too_few_images_says_what_was_left_out(folder: Folder) -> None:
    for name in CLASSES:
        folder.add(name, "1.bin", "2.bin")
    assert folder.refused().endswith(
        "photos has too few images for train; add some; left out: 4 not named as an image (dog/1.bin, dog/2.bin, "
        "guinea pig/1.bin, …)"
    )


def test_too_few_images_with_nothing_left_out(folder: Folder) -> None:
    fill(folder, ".", images=1)
    assert folder.refused().endswith("photos has too few images for test; add some")


def deny(monkeypatch: pytest.MonkeyPatch, place: Any, function: str, denied: str) -> None:
    """Let the operating system refuse a directory; permissions do not stop root, who may run the tests."""
    allowed = getattr(place, function)

    def refuse(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(path).endswith(denied):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return allowed(path, *arguments, **options)

    monkeypatch.setattr(place, function, refuse)


def test_a_directory_that_cannot_be_read_is_refused(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder, "train")
    folder.add("papers/old", "a.txt")
    deny(monkeypatch, os, "scandir", "papers/old")
    assert folder.refused().endswith("photos/papers/old cannot be read (Permission denied)")


@pytest.mark.parametrize("denied", ["photos", "photos/test", "photos/train/dog", "photos/train/dog/0.png"])
def test_what_the_system_does_not_let_be_seen_is_refused(
    denied: str, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, "train", "test")
    deny(monkeypatch, Path, "stat", denied)
    assert folder.refused().endswith(f"/{denied} cannot be read (Permission denied)")


def test_a_hidden_directory_that_cannot_be_read_is_left_out(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A disk's ``lost+found`` belongs to root."""
    fill(folder, "train", "test")
    folder.add("lost+found", "1.png")
    deny(monkeypatch, os, "scandir", "lost+found")
    folder.pack()
    assert "left out: 1 hidden (lost+found)" in capsys.readouterr().out


def test_a_hidden_link_that_leads_nowhere_is_left_out(folder: Folder, capsys: pytest.CaptureFixture) -> None:
    """Editors lock files with such links."""
    fill(folder, "train", "test")
    folder.add("papers/.git", "config")
    for place in ("train/dog/.#notes", "papers/.git/lock"):
        (folder.root / "photos" / place).symlink_to("nowhere")
    folder.pack()
    output = capsys.readouterr().out
    assert "1 hidden (train/dog/.#notes)" in output
    assert "2 in a directory without images (papers/.git/config, papers/.git/lock)" in output
