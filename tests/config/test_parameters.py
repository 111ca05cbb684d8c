"""params.yaml: what is legal, and one line for each mistake."""

import copy
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from pipeline.config import Grid, LegalNames, Parameters, load_parameters
from pipeline.errors import UserError
from pipeline.models import model_names
from pipeline.tasks import task_names

Content = dict[str, Any]
Change = Callable[[Content], None]

ROOT = Path(__file__).parents[2]
OPTIONS = sorted((path.parent.name, path.stem) for path in (ROOT / "conf").glob("*/*.yaml"))


def composed(*overrides: str) -> Content:
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        content = OmegaConf.to_container(compose("config", list(overrides)), resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


@pytest.fixture
def content() -> Content:
    return copy.deepcopy(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))


def check(content: object, tmp_path: Path) -> Parameters:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_parameters(path, LegalNames(task_names(), [*model_names(), "mini-clip"]))


def test_params_yaml_is_the_composed_default(content: Content) -> None:
    assert content == composed()


def test_committed_parameters_are_legal() -> None:
    parameters = load_parameters(ROOT / "params.yaml", LegalNames(task_names(), model_names()))
    assert parameters.suite == "mini"


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_is_legal(group: str, option: str, tmp_path: Path) -> None:
    content = composed(f"{group}={option}")
    assert check(content, tmp_path).model_dump(mode="json") == content


def test_the_groups_have_options() -> None:
    assert {group for group, _ in OPTIONS} == {"model", "suite", "paradigm"}
    assert ("suite", "tiny") in OPTIONS


def set_at(key: str, value: object) -> Change:
    def change(content: Content) -> None:
        *parents, last = key.split(".")
        for parent in parents:
            content = content[parent]
        content[last] = value

    return change


def delete(key: str) -> Change:
    def change(content: Content) -> None:
        *parents, last = key.split(".")
        for parent in parents:
            content = content[parent]
        del content[last]

    return change


def rename(old: str, new: str) -> Change:
    def change(content: Content) -> None:
        *parents, last = old.split(".")
        for parent in parents:
            content = content[parent]
        content[new] = content.pop(last)

    return change


def replace_task(content: Content) -> None:
    content["tasks"][0] = content["datasets"][0] = "mnits"


def repeat_task(content: Content) -> None:
    content["tasks"][1] = content["datasets"][1] = content["tasks"][0]


def make_control_a_task(content: Content) -> None:
    content["control"] = content["datasets"][-1] = content["tasks"][2]


# What is changed, and the texts that the one line must hold.
MISTAKES: dict[str, tuple[Change, list[str]]] = {
    "unknown key": (set_at("sede", 3), ["'sede'", "3", "seed", "suite", "intervals"]),
    "unknown nested key": (
        set_at("finetune.learning_rate", 0.5),
        ["'finetune.learning_rate'", "0.5", "lr", "batch_size", "crop_padding"],
    ),
    "unknown deep key": (set_at("search.addition.step", 0.1), ["'search.addition.step'", "0.1", "min, max, points"]),
    "unknown key of a paradigm": (
        set_at("paradigm.standard.space", "weight"),
        ["'paradigm.standard.space'", "'weight'", "trainable, trained_in, evaluated_in"],
    ),
    "misspelt key": (rename("finetune.lr", "lrr"), ["'finetune.lrr'", "0.0003", "lr, batch_size"]),
    "misspelt section": (rename("search", "serach"), ["'serach'", "search", "intervals"]),
    "missing key": (delete("prepare.val_max"), ["prepare.val_max", "missing"]),
    "text for a number": (set_at("seed", "many"), ["seed", "'many'", "integer"]),
    "text for a fraction": (set_at("prepare.val_fraction", "ten"), ["prepare.val_fraction", "'ten'", "number"]),
    "truth value for a number": (set_at("finetune.batch_size", True), ["finetune.batch_size", "True", "integer"]),
    "fraction for a number": (set_at("epochs.icons", 2.5), ["epochs.icons", "2.5", "integer"]),
    "number for a list": (set_at("tasks", 3), ["tasks", "3", "list"]),
    "number for a section": (set_at("search", 3), ["search", "3"]),
    "negative learning rate": (set_at("finetune.lr", -1.0), ["finetune.lr", "-1.0", "greater than 0"]),
    "fraction above one": (set_at("finetune.warmup", 1.5), ["finetune.warmup", "1.5", "less than or equal to 1"]),
    "NaN": (set_at("finetune.lr", math.nan), ["finetune.lr", "nan", "finite"]),
    "infinity": (set_at("finetune.max_grad_norm", math.inf), ["finetune.max_grad_norm", "inf", "finite"]),
    "NaN in a grid": (set_at("search.negation.max", math.nan), ["search.negation.max", "nan", "finite"]),
    "unknown device": (set_at("device", "tpu"), ["device", "'tpu'", "auto", "cpu", "cuda"]),
    "unknown task": (replace_task, ["tasks", "'mnits'", *task_names()]),
    "unknown control": (set_at("control", "mnits"), ["control", "'mnits'", *task_names()]),
    "unknown model": (set_at("models", ["ViT-B-31"]), ["models", "'ViT-B-31'", "ViT-B-32", "ViT-L-14"]),
    "unknown paradigm": (set_at("paradigms", ["standrad"]), ["paradigms", "'standrad'", "standard"]),
    "no paradigm": (set_at("paradigms", []), ["paradigms", "[]", "standard"]),
    "no model": (set_at("models", []), ["models", "[]", "ViT-B-32"]),
    "unknown space": (set_at("paradigm.standard.trained_in", "flat"), ["trained_in", "'flat'", "'weight'"]),
    "grid upside down": (set_at("search.addition.min", 2.0), ["search.addition", "max 1.0", "min 2.0", "at least"]),
    "grid of one point": (set_at("search.negation.points", 1), ["search.negation", "0.0", "1.0", "2 or more"]),
    "grid below zero": (set_at("search.addition.min", -0.5), ["search.addition.min", "-0.5"]),
    "grid of no points": (set_at("search.addition.points", 0), ["search.addition.points", "0", "greater than 0"]),
    "duplicate task": (repeat_task, ["tasks", "'icons', 'icons'", "once"]),
    "control among tasks": (make_control_a_task, ["control", "'optdigits'", "another task"]),
    "datasets without control": (
        set_at("datasets", ["icons"]),
        ["datasets", "['icons']", "icons, fashion", "signs, emoji"],
    ),
    "missing epochs": (delete("epochs.icons"), ["epochs", "'icons'"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gives_one_line(mistake: str, content: Content, tmp_path: Path) -> None:
    change, texts = MISTAKES[mistake]
    change(content)
    with pytest.raises(UserError) as error:
        check(content, tmp_path)
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(f"{tmp_path / 'params.yaml'}: ")
    for text in texts:
        assert text in line, f"{text!r} is not in {line!r}"


def test_several_mistakes_are_counted(content: Content, tmp_path: Path) -> None:
    content["seed"] = -1
    content["device"] = "tpu"
    with pytest.raises(UserError, match=r"\(and 1 more\)$"):
        check(content, tmp_path)


def test_names_are_checked_only_against_known_ones(content: Content, tmp_path: Path) -> None:
    content["models"] = ["of-another-machine"]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    assert load_parameters(path).models == ["of-another-machine"]


@pytest.mark.parametrize("text", ["tasks: [a, b", "a: b: c", "\t- x", "seed: 0\n  suite: x"])
def test_broken_yaml_gives_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="not valid YAML") as error:
        load_parameters(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(path))
    assert "line " in str(error.value)


@pytest.mark.parametrize("content", [b"", b"- a\n", b"text", b"\xff\xfe\x00"])
def test_a_file_that_is_no_mapping_gives_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        load_parameters(path)
    assert str(error.value).startswith(f"{path}: ")
    assert ": :" not in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file_gives_one_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    with pytest.raises(UserError) as error:
        load_parameters(path)
    assert str(error.value) == f"{path}: no such file; run from the root of the repository"


bounds = st.floats(0, 10).map(lambda x: round(x, 3))


@given(bounds, bounds, st.integers(2, 60))
def test_grid_values(a: float, b: float, points: int) -> None:
    low, high = min(a, b), max(a, b)
    values = Grid(min=low, max=high, points=points).values()
    assert len(values) == points
    assert values == sorted(values)
    assert values[0] == low
    assert values[-1] == high
    assert all(low <= value <= high for value in values)
    if high - low > 1e-3:
        assert len(set(values)) == points
        gaps = [after - before for before, after in itertools.pairwise(values)]
        assert max(gaps) - min(gaps) < 1e-8


def test_default_grid_prints_short() -> None:
    assert Grid(min=0, max=1, points=21).values() == [i / 20 for i in range(21)]


def test_one_point() -> None:
    assert Grid(min=0.3, max=0.3, points=1).values() == [0.3]
