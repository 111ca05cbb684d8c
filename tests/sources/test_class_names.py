"""The papers' tasks: classes in the order of the labels, templates, against lists that others keep."""

import tempfile
from importlib.resources import files
from pathlib import Path

import open_clip
import pytest
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

from pipeline.sources.class_names import check_class_names, names_in_card
from pipeline.tasks import TaskDefinition, load_task
from pipeline.tasks.registry import HubSource
from tests.hub import card

TASKS = ["cars", "dtd", "eurosat", "gtsrb", "mnist", "resisc45", "sun397", "svhn"]
SIZES = [196, 47, 10, 43, 10, 45, 397, 10]


def hub(definition: TaskDefinition) -> HubSource:
    assert isinstance(definition.source, HubSource)
    return definition.source


def test_number_of_classes() -> None:
    assert [len(load_task(name).classes) for name in TASKS] == SIZES
    assert len(load_task("imagenet").classes) == 1000


@pytest.mark.parametrize("name", ["dtd", "resisc45", "sun397"])
def test_classes_of_sorted_datasets_are_sorted(name: str) -> None:
    """Labels count the sorted names of directories."""
    classes = load_task(name).classes
    if name == "sun397":  # bow_window/indoor comes before bowling_alley
        classes = [scene.split()[0] for scene in classes if scene != "bowling alley"]
    assert classes == sorted(classes)


def test_cars_as_pages_of_the_hub_show_them() -> None:
    seen = {0: "am general hummer suv 2000", 3: "acura tl type-s 2008", 5: "acura integra type r 2001"}
    seen |= {10: "aston martin virage coupe 2012", 15: "audi v8 sedan 1994", 28: "bmw 3 series sedan 2012"}
    classes = load_task("cars").classes
    assert {label: classes[label].casefold() for label in seen} == seen


def test_imagenet_is_in_the_order_of_its_synsets() -> None:
    """timm keeps the list of synsets in the order of the labels, with their names."""
    information = files("timm") / "data" / "_info"
    synsets = (information / "imagenet_synsets.txt").read_text().split()
    lines = (information / "imagenet_synset_to_lemma.txt").read_text().splitlines()
    lemmas = dict(line.split("\t") for line in lines)
    names = hub(load_task("imagenet")).class_names
    assert names is not None
    assert {i: name for i, name in enumerate(names) if name != lemmas[synsets[i]]} == {517: "crane2"}
    assert lemmas[synsets[517]] == "crane"


def test_imagenet_classes_and_templates_are_clips() -> None:
    task = load_task("imagenet")
    different = {i: name for i, name in enumerate(task.classes) if name != IMAGENET_CLASSNAMES[i]}
    assert different == {744: "projectile", 836: "sunglass"}
    assert IMAGENET_CLASSNAMES[744] == IMAGENET_CLASSNAMES[657] == "missile"
    assert IMAGENET_CLASSNAMES[836] == IMAGENET_CLASSNAMES[837] == "sunglasses"
    assert task.templates == [template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]


@pytest.mark.parametrize("name", TASKS)
def test_a_dataset_with_our_names_is_accepted(name: str) -> None:
    classes = load_task(name).classes
    message = f"all {len(classes)} as in the definition"
    assert check_class_names(classes, [c.replace(" ", "_").upper() for c in classes], name) == message
    names = names_in_card_of(classes)
    assert names is not None
    assert check_class_names(classes, names, name) == message


def names_in_card_of(classes: list[str]) -> list[str] | None:

    with tempfile.TemporaryDirectory() as directory:
        readme = Path(directory) / "README.md"
        readme.write_bytes(card(classes))
        return names_in_card(readme, "label", "data")


def test_of_a_card_with_several_configurations_one_is_read(tmp_path: Path) -> None:
    """As svhn's."""
    readme = tmp_path / "README.md"
    entry = "- config_name: {0}\n  features:\n  - name: label\n    dtype:\n      class_label:\n        names:\n"
    entry += "          '1': b{0}\n          '0': a{0}\n"
    readme.write_text("---\ndataset_info:\n" + entry.format("full") + entry.format("cropped") + "---\n")
    assert names_in_card(readme, "label", "cropped") == ["acropped", "bcropped"]
    assert names_in_card(readme, "label", "other") is None
    assert names_in_card(readme, "digits", "full") is None


@pytest.mark.parametrize("content", ["# no metadata\n", "---\nlicense: mit\n---\n"])
def test_a_card_without_features_has_no_names(content: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(content)
    assert names_in_card(tmp_path / "README.md", "label", "default") is None


def test_imagenets_own_names_do_not_pass_for_ours_in_another_order() -> None:
    """Curated names, many not the dataset's, but none of them another label's."""
    task = load_task("imagenet")
    assert "have other names" in check_class_names(task.classes, hub(task).class_names, "imagenet")
