"""One pattern for every kind of name, wherever somebody may write one."""

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.config import Choices, LegalNames, check_name, checked, load_parameters
from pipeline.config.names import MAX_LENGTH, check_keys
from pipeline.errors import UserError
from pipeline.models import model_names
from pipeline.tasks import load_task, task_names
from tauflow.dvc.composition import compose

Content = dict[str, Any]
Rename = Callable[[Content, str], None]

ROOT = Path(__file__).parents[2]
ODD = [
    *(
        "",
        " ",
        "../../x",
        "..",
        ".hidden",
        "a/b",
        "a\\b",
        "/etc",
        "a.b",
        "pets@2",
        "pets:2",
        "my pets",
        " pets",
        "pets ",
    ),
    *("pets\n", "a\nb", "\x1b[31mred", "a\tb", "\x00", "x" * (MAX_LENGTH + 1), "x" * 300, "R&D", "a|b", "a>b"),
    *("pets;touch PWNED", "x;touch pwned;#", "$(touch PWNED)", "`id`", "$HOME", "${tasks}", "a'b", 'a"b', "*", "a?"),
    *("-x", "--help", "_x", "~", "a=b", "a,b", "a+b", "[a]", "{a}", "#a", "%20", "größe", "日本", "café", "a\u200bb"),
    *("con", "NUL", "com1", "Lpt9", "aux"),
]
GOOD = ["ViT-B-32", "mini-clip", "tau_jp_strict", "a", "0", "A" * MAX_LENGTH, "x-", "a--b", "console", "com10"]


def rename_in_list(key: str) -> Rename:
    return lambda content, name: content[key].__setitem__(0, name)


def rename_key(section: str) -> Rename:
    return lambda content, name: content[section].__setitem__(name, next(iter(content[section].values()), {}))


def set_at(*path: str) -> Rename:
    def change(content: Content, name: str) -> None:
        *parents, last = path
        for parent in parents:
            content = content[parent]
        content[last] = name

    return change


# Every place of params.yaml that holds a name.
PLACES: dict[str, Rename] = {
    **{key: rename_in_list(key) for key in ("models", "tasks", "paradigms")},
    **{key: set_at(key) for key in ("suite", "control")},
    **{f"key of {key}": rename_key(key) for key in ("epochs", "schedule", "recipe", "paradigm", "imported")},
    "recipe of a paradigm": set_at("paradigm", "standard", "recipe"),
    "selection": set_at("recipe", "standard", "trainable"),
    "start": set_at("recipe", "ntk", "start"),
    "regulariser": set_at("recipe", "tau_jp", "regulariser", "name"),
    "option": lambda content, name: content["recipe"]["tau_jp"]["regulariser"]["options"].__setitem__(name, 1.0),
    "task of others": lambda content, name: rename_in_list("tasks")(
        content["recipe"]["tau_jp"]["regulariser"]["others"], name
    ),
    "control of others": set_at("recipe", "tau_jp", "regulariser", "others", "control"),
}


@pytest.fixture
def chosen(content: Content) -> Content:
    """The committed choices, to be changed."""
    return {key: value for key, value in content.items() if key != "derived"}


@pytest.mark.parametrize("name", GOOD)
def test_good_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_refused_in_one_printable_line(name: str) -> None:
    with pytest.raises(ValueError, match="is not a name") as error:
        check_name(name)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("place", PLACES)
def test_no_place_takes_an_odd_name(place: str, chosen: Content) -> None:
    for name in ODD:
        changed = copy.deepcopy(chosen)
        PLACES[place](changed, name)
        with pytest.raises(UserError) as error:
            checked(changed, Choices)
        assert "is not a name" in str(error.value)
        assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ["pets;touch PWNED", "../../x", "a\nb", "pets@2", "größe", "x" * 300])
def test_a_file_of_parameters_is_refused(name: str, content: Content, tmp_path: Path) -> None:
    content["tasks"].append(name)
    path = tmp_path / "params.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(content, file)
    with pytest.raises(UserError, match=r"params\.yaml: tasks\.8: .* is not a name; use 1 to 64 of"):
        load_parameters(path, LegalNames(task_names(), model_names()))


@pytest.mark.parametrize(
    "override", ["control='pets;touch PWNED'", "tasks=['../../x']", "control='a b'", "paradigms=[a.b]"]
)
def test_an_override_is_refused(override: str, root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a name; use"):
        compose(root, [override], tmp_path / "params.yaml")
    assert not (tmp_path / "params.yaml").exists()


@pytest.mark.parametrize("group", ["paradigm", "suite", "model"])
@pytest.mark.parametrize("name", ["my pets", "pets;touch PWNED", "pets@2", "a.b"])
def test_a_file_of_conf_is_refused(group: str, name: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "conf" / group / f"{name}.yaml").write_text("# @package _global_\n")
    with pytest.raises(UserError, match=f"^conf/{group}: '.*' is not a name; .*; rename the file$"):
        compose(tmp_path)


@pytest.mark.parametrize("kind", ["tasks", "models"])
def test_a_definition_is_refused(kind: str) -> None:
    names = {"tasks": ["icons"], "models": ["mini-clip"], kind: ["pets (copy)"]}
    with pytest.raises(UserError, match=rf"^pipeline/definitions/{kind}: 'pets \(copy\)' is not a name; .*; rename"):
        LegalNames(**names)


def test_a_definition_holds_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = (ROOT / "pipeline" / "definitions" / "tasks" / "icons.yaml").read_text().replace("name: icons", "name: a b")
    (tmp_path / "a b.yaml").write_text(text)
    monkeypatch.setattr("pipeline.tasks.registry._DEFINITIONS", tmp_path)
    with pytest.raises(UserError, match="name: 'a b' is not a name"):
        load_task("a b")


@pytest.mark.parametrize(
    ("changes", "pairs"),
    [
        ({"paradigms": ["standard", "x-standard"]}, "('mini-clip', 'x-standard') and ('mini-clip-x', 'standard')"),
        ({"tasks": ["icons", "x-icons"]}, "('mini-clip', 'x-icons') and ('mini-clip-x', 'icons')"),
        ({"control": "Icons"}, "('mini-clip', 'icons') and ('mini-clip', 'Icons')"),
        ({"control": "x-icons"}, "('mini-clip', 'x-icons') and ('mini-clip-x', 'icons')"),
        ({"paradigms": ["standard", "recipe-x"]}, "('mini-clip', 'x-standard') and ('mini-clip-x', 'standard')"),
    ],
)
def test_colliding_keys_are_refused(changes: Content, pairs: str, chosen: Content) -> None:
    """`a-b` and `c` are joined to the same key as `a` and `b-c`: one of them would be lost without a word."""
    chosen |= {"models": ["mini-clip", "mini-clip-x"], "tasks": ["icons"], "paradigms": ["standard"], **changes}
    chosen["epochs"] = dict.fromkeys(chosen["tasks"], 1)
    for table in ("recipe", "schedule", "paradigm"):
        chosen[table]["x-standard"] = chosen[table]["standard"]
    chosen["paradigm"]["recipe-x"] = {**chosen["paradigm"]["standard"], "recipe": "x-standard"}
    with pytest.raises(UserError, match="give the same key; rename one of them") as error:
        checked(chosen, Choices)
    assert pairs in str(error.value)


@pytest.mark.parametrize(
    "names", [(["a", "a-b"], ["b-c", "c"]), (["a"], ["b", "b-c"], ["c-d", "d"]), (["a"], ["pets", "Pets"])]
)
def test_keys_of_products(names: tuple[list[str], ...]) -> None:
    with pytest.raises(ValueError, match=r"^x: \(.*\) and \(.*\) give the same key"):
        check_keys("x", *names)
    check_keys("x", *(sorted(part)[:1] for part in names))


def test_a_recipe_called_as_one_in_an_order_is_refused(chosen: Content) -> None:
    for table in ("recipe", "schedule"):
        chosen[table]["tau_jp_order_0"] = chosen[table]["standard"]
    chosen["paradigm"]["ntk"]["recipe"] = "tau_jp_order_0"
    with pytest.raises(UserError, match="'tau_jp_order_0' is what incremental learning calls a recipe in an order"):
        checked(chosen, Choices)


@pytest.mark.parametrize("argument", ["pets;touch PWNED", "../../x", "a b", ""])
def test_a_script_of_a_stage_refuses_an_odd_argument(argument: str, tmp_path: Path) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    result = subprocess.run(
        [sys.executable, "-m", "stages.download", argument],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TAUFLOW_TRACKER": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.endswith("`dvc stage list` shows them")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dvc.yaml", "params.yaml"]
