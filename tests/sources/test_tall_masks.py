"""The twelve tasks that TALL-masks adds to the papers' eight, and the two that FusionBench's data have instead.

The figures typed here were read from the datasets' pages and from the released code (nik-dim/tall_masks); lists that
torchvision has are compared with torchvision's.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from pipeline.preparation.raw import read_raw
from pipeline.sources.class_names import check_class_names
from pipeline.sources.download import Roots, download
from pipeline.tasks import TaskDefinition, load_task
from pipeline.tasks.registry import HubSource
from tests.hub import Hub, encoded, parquet, private_hub

HIRAGANA = list("おきすつなはまやれを")


@dataclass(frozen=True)
class Published:
    """A dataset as the hub has it.

    files: paths, by the split that we make of them; those under "" are not taken.
    classes: how many; first, last: their names in the dataset, if it has any.
    """

    repository: str
    files: dict[str, list[str]]
    classes: int
    first: str | None = None
    last: str | None = None
    image: str = "image"
    label: str = "label"
    size: int | None = None
    grey: bool = False
    names: list[str] | None = field(default=None)


def shards(folder: str, **counts: int) -> dict[str, list[str]]:
    """Paths such as ``data/train-00000-of-00008.parquet``, by split."""
    return {
        split: [f"{folder}/{split}-{i:05}-of-{count:05}.parquet" for i in range(count)]
        for split, count in counts.items()
    }


def renamed(files: dict[str, list[str]], **changes: str) -> dict[str, list[str]]:
    return {changes.get(split, split): paths for split, paths in files.items()}


CONVERTED = {"train": ["default/train/0000.parquet"], "test": ["default/test/0000.parquet"]}
PUBLISHED = {
    "cifar100": Published(
        *("uoft-cs/cifar100", shards("cifar100", train=1, test=1), 100, "apple", "worm"),
        **{"image": "img", "label": "fine_label", "size": 32},
    ),
    "stl10": Published("tanganke/stl10", shards("data", train=1, test=1), 10, "airplane", "truck", size=96),
    "flowers102": Published(
        "dpdl-benchmark/oxford_flowers102",
        renamed(shards("data", train=1, test=6, validation=1), validation=""),
        *(102, "pink primrose", "blackberry lily"),
    ),
    "oxford_pets": Published(
        *("timm/oxford-iiit-pet", shards("data", train=1, test=1), 37, "abyssinian", "yorkshire_terrier"),
    ),
    "pcam": Published(
        "dpdl-benchmark/patch_camelyon",
        renamed(shards("data", train=13, test=2, validation=2), validation=""),
        *(2, "0", "1"),
        size=96,
    ),
    "fer2013": Published(*("clip-benchmark/wds_fer2013", CONVERTED, 7), image="jpg", label="cls", size=48, grey=True),
    "emnist": Published("ernestchu/emnist-digits", shards("data", train=1, test=1), 10, size=28, grey=True),
    "emnist_letters": Published(
        *("tanganke/emnist_letters", shards("emnist-letters", train=1, test=1), 26, "A", "Z"), size=28, grey=True
    ),
    "cifar10": Published(
        *("uoft-cs/cifar10", shards("plain_text", train=1, test=1), 10, "airplane", "truck"), image="img", size=32
    ),
    "food101": Published(
        "ethz/food101",
        renamed(shards("data", train=8, validation=3), validation="test"),
        *(101, "apple_pie", "waffles"),
    ),
    "fashion_mnist": Published(
        "zalando-datasets/fashion_mnist",
        shards("fashion_mnist", train=1, test=1),
        *(10, "T - shirt / top", "Ankle boot"),
        **{"size": 28, "grey": True},
    ),
    "rendered_sst2": Published(
        "nateraw/rendered-sst2", {**CONVERTED, "": ["default/validation/0000.parquet"]}, 2, "negative", "positive"
    ),
    "kmnist": Published(
        *("tanganke/kmnist", shards("kmnist", train=1, test=1), 10, "お", "を"),
        **{"size": 28, "grey": True, "names": HIRAGANA},
    ),
    "kmnist_hiragana": Published(
        *("tanganke/kmnist", shards("kmnist", train=1, test=1), 10, "お", "を"),
        **{"size": 28, "grey": True, "names": HIRAGANA},
    ),
}


def hub_source(definition: TaskDefinition) -> HubSource:
    assert isinstance(definition.source, HubSource)
    return definition.source


@pytest.mark.parametrize("task", PUBLISHED)
def test_number_and_order_of_classes(task: str) -> None:
    published, definition = PUBLISHED[task], load_task(task)
    names = hub_source(definition).class_names or definition.classes
    assert len(definition.classes) == len(names) == published.classes
    if published.first:
        assert check_class_names([names[0], names[-1]], [published.first, str(published.last)], task).startswith(
            "all 2"
        )
    if published.names:
        assert names == published.names


def test_classes_are_torchvisions() -> None:
    """The released code takes its names; CLIP has other words for three flowers."""
    assert load_task("fashion_mnist").classes == datasets.FashionMNIST.classes
    assert load_task("kmnist").classes == datasets.KMNIST.classes
    assert load_task("emnist").classes == sorted(datasets.EMNIST.classes_split_dict["digits"])
    letters = [name for name in datasets.EMNIST.classes_split_dict["letters"] if name != "N/A"]
    assert load_task("emnist_letters").classes == [name.upper() for name in letters]
    flowers = load_task("flowers102")
    assert hub_source(flowers).class_names == list(datasets.Flowers102.classes)
    pairs = zip(flowers.classes, datasets.Flowers102.classes, strict=True)
    assert [ours for ours, theirs in pairs if ours != theirs] == ["globe flower", "pink and yellow dahlia", "air plant"]


@pytest.mark.parametrize(
    ("task", "label", "name"),
    [
        *[("cifar100", 26, "crab"), ("cifar100", 47, "maple tree"), ("cifar100", 71, "sea"), ("cifar10", 6, "frog")],
        *[("stl10", 7, "monkey"), ("oxford_pets", 14, "German Shorthaired"), ("oxford_pets", 31, "Shiba Inu")],
        *[("pcam", 1, "lymph node containing metastatic tumor tissue"), ("food101", 50, "grilled salmon")],
        *[("fer2013", 4, "neutral"), ("fer2013", 6, "surprised"), ("rendered_sst2", 1, "positive")],
    ],
)
def test_classes_in_the_middle(task: str, label: int, name: str) -> None:
    assert load_task(task).classes[label] == name


def test_templates_are_the_released_ones() -> None:
    counts = {task: len(load_task(task).templates) for task in PUBLISHED}
    assert counts == {
        **dict.fromkeys(PUBLISHED, 1),
        **{"cifar10": 18, "cifar100": 18, "stl10": 2, "fashion_mnist": 2, "fer2013": 6},
    }
    assert load_task("emnist").templates == ['a photo of the digit character: "{}".']
    assert load_task("pcam").templates == ["this is a photo of {}"]
    assert load_task("kmnist").templates == ["a photo of the character {}."]
    assert load_task("cifar100").templates == load_task("cifar10").templates
    assert load_task("cifar10").templates[-1] == "a photo of the big {}."


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with private_hub(tmp_path, monkeypatch) as server:
        yield server


@pytest.mark.parametrize("task", PUBLISHED)
def test_it_downloads_from_its_published_layout(task: str, hub: Hub, tmp_path: Path) -> None:
    """The files, columns and names of the hub's dataset; each file holds one image more than the one before."""
    published, definition = PUBLISHED[task], load_task(task)
    source = hub_source(definition)
    named = (source.class_names or definition.classes) if published.first else None
    random = np.random.default_rng(0)
    files: dict[str, bytes] = {}
    expected: dict[str, int] = {"train": 0, "test": 0}
    for split, paths in published.files.items():
        for number, path in enumerate(paths, start=1):
            size = (published.size, published.size) if published.size else random.integers(40, 60, 2)
            pixels = random.integers(0, 256, (number, *size) if published.grey else (number, *size, 3), dtype=np.uint8)
            labels = [i % published.classes for i in range(number)]
            images = [encoded(image) for image in pixels]
            files[path] = parquet(images, labels, named, published.label, published.image)
            if split:
                expected[split] += number
    hub.publish(published.repository, files)
    record = download(definition, Roots(Path(), Path()), tmp_path / "raw", None)
    assert record.commit == hub.commit(published.repository)
    taken = {path for split, paths in published.files.items() if split for path in paths}
    assert record.files.keys() == taken
    verdict = f"all {published.classes} as in the definition"
    assert record.class_names == (verdict if named else "the dataset has no names that can be read: not compared")
    raw = read_raw(definition, tmp_path / "raw")
    assert {split: len(content.labels) for split, content in raw.items()} == expected
    with ThreadPoolExecutor(1) as executor:
        side = published.size or 32
        blocks = list(raw["test"].images(np.arange(expected["test"]), side, executor))
    assert np.concatenate(blocks).shape == (expected["test"], 3, side, side)
