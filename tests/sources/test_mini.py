"""The mini suite's tasks: what they hold, that they leak nothing, and what happens when a source is broken."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.images import LabelledImages
from pipeline.sources.mini import TASKS, clipart, counting, emoji, icons, materialise, shapes, signs, textures
from pipeline.sources.mini.near_duplicates import THRESHOLD, distances, first_of_each, perceptual_hash
from pipeline.sources.mini.sources import read_arrays
from pipeline.tasks import load_task

Splits = dict[str, LabelledImages]

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "data" / "mini"
IN_CODE = {
    "clipart": clipart.CLASSES,
    "counting": counting.CLASSES,
    "emoji": emoji.CONTROL_CONCEPTS,
    "icons": icons.CLASSES,
    "shapes": shapes.CLASSES,
    "signs": signs.CLASSES,
    "textures": textures.CLASSES,
}
LEAST = {"train": 790, "val": 130, "test": 370}


@pytest.fixture(scope="module")
def suite() -> dict[str, Splits]:
    return {task: materialise(task, SOURCES) for task in TASKS}


def pictures(images: LabelledImages) -> set[bytes]:
    return {image.tobytes() for image in images.images}


@pytest.mark.parametrize("task", TASKS)
def test_splits_have_the_contracts_form(task: str, suite: dict[str, Splits]) -> None:
    classes = len(load_task(task).classes)
    assert set(suite[task]) == {"train", "val", "test"}
    for name, split in suite[task].items():
        assert split.images.shape == (len(split), 3, 32, 32)
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64
        assert len(split) >= LEAST[name]
        assert set(split.labels.tolist()) == set(range(classes))


@pytest.mark.parametrize("task", TASKS)
def test_the_same_bytes_every_time(task: str, suite: dict[str, Splits]) -> None:
    again = materialise(task, SOURCES)
    for name, split in suite[task].items():
        assert np.array_equal(split.images, again[name].images)
        assert np.array_equal(split.labels, again[name].labels)


@pytest.mark.parametrize("task", TASKS)
def test_no_image_is_there_twice(task: str, suite: dict[str, Splits]) -> None:
    sets = [pictures(split) for split in suite[task].values()]
    assert sum(map(len, sets)) == sum(len(split) for split in suite[task].values())
    assert len(set.union(*sets)) == sum(map(len, sets))


@pytest.mark.parametrize("task", IN_CODE)
def test_definition_and_code_name_the_same_classes(task: str) -> None:
    assert tuple(load_task(task).classes) == IN_CODE[task]


@pytest.mark.parametrize("task", TASKS)
def test_definition_is_complete(task: str) -> None:
    definition = load_task(task)
    assert definition.source.kind == "mini"
    assert all((definition.origin, definition.licence, definition.citation, definition.description))


def test_counting_shows_no_control_concept() -> None:
    bank = emoji.load(SOURCES)
    countable = {bank.names[position] for position in bank.countable()}
    assert len(countable) > 100
    assert not countable & set(emoji.CONTROL_CONCEPTS)


def test_a_count_is_the_number_of_separate_things() -> None:
    scipy_label = pytest.importorskip("scipy.ndimage").label
    rng = np.random.default_rng(0)
    dot = np.zeros((60, 4, 10, 10), np.float32)
    dot[:, :, 3:7, 3:7] = 1
    counts = rng.integers(1, 7, 60)
    arranged = counting.arrange(rng, dot, counts)
    assert [scipy_label(image[3] > 0.3)[1] for image in arranged] == counts.tolist()


@pytest.fixture(scope="module")
def drawings() -> np.ndarray:
    """All clip art on white."""
    (images,) = read_arrays(SOURCES / "clipart.npz", "images")
    alpha = images[..., 3:].astype(np.float32) / 255
    return np.rint(images[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8).transpose(0, 3, 1, 2)


def test_clip_art_holds_no_near_duplicates(drawings: np.ndarray) -> None:
    assert len(first_of_each(drawings)) == len(drawings)


def test_icons_hold_no_near_duplicates() -> None:
    (images,) = read_arrays(SOURCES / "icons.npz", "images")
    assert len(first_of_each(np.repeat(255 - images[:, None], 3, axis=1))) == len(images)


def test_near_duplicates_are_recognised(drawings: np.ndarray) -> None:
    originals = drawings[::100]
    paler = np.rint(originals * 0.85 + 20).astype(np.uint8)
    between = distances(perceptual_hash(originals), perceptual_hash(paler))
    assert between.diagonal().max() <= THRESHOLD
    assert between[~np.eye(len(originals), dtype=bool)].min() > THRESHOLD
    assert first_of_each(np.concatenate([originals, paler])).tolist() == list(range(len(originals)))


def test_each_clip_art_drawing_is_in_one_place() -> None:
    parts = clipart.load(SOURCES).parts()
    together = np.concatenate(list(parts.values()))
    assert set(parts) == {"pre-training", "train", "val", "test"}
    assert len(np.unique(together)) == len(together)


def test_icon_sets_are_not_shared_between_splits() -> None:
    (sets,) = read_arrays(SOURCES / "icons.npz", "sets")
    parts = icons.parts(np.random.default_rng(0), sets)
    names = [set(sets[members]) for members in parts.values()]
    assert sum(map(len, names)) == len(set.union(*names)) == len(np.unique(sets))
    assert sum(map(len, parts.values())) == len(sets)


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(ValueError, match=r"unknown mini task 'cars'; choose from clipart, counting"):
        materialise("cars", SOURCES)


@pytest.mark.parametrize(
    ("task", "file"),
    [
        ("clipart", "clipart.npz"),
        ("counting", "emoji.npz"),
        ("emoji", "emoji.npz"),
        ("fashion", "fashion.npz"),
        ("icons", "icons.npz"),
        ("optdigits", "optdigits.npz"),
        ("signs", "glyphs.npz"),
    ],
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "emptied", "incomplete"])
def test_a_broken_source_gives_one_line(task: str, file: str, damage: str, tmp_path: Path) -> None:
    path = tmp_path / file
    content = bytearray((SOURCES / file).read_bytes())
    match damage:
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "flipped":
            content[len(content) // 3] ^= 0xFF
            path.write_bytes(content)
        case "emptied":
            path.write_bytes(b"")
        case "incomplete":
            np.savez_compressed(path, something=np.zeros(1))
    with pytest.raises(ValueError, match=r"no such file|damaged|has no array") as caught:
        materialise(task, tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_font_and_icon_set_is_in_the_licences() -> None:
    text = (SOURCES / "LICENCES.md").read_text(encoding="utf-8")
    (fonts,) = read_arrays(SOURCES / "glyphs.npz", "fonts")
    (sets,) = read_arrays(SOURCES / "icons.npz", "sets")
    assert [font for font in fonts.tolist() if font not in text] == []
    assert [name for name in np.unique(sets).tolist() if f"`{name}`" not in text] == []
