"""Task definitions: every committed one loads, and a wrong one says what is wrong."""

import os
from pathlib import Path
from typing import Any

import open_clip
import pytest
import yaml

from pipeline.errors import UserError
from pipeline.tasks import load_task, registry, task_names
from pipeline.tasks.text import comparable, printable

ROOT = Path(__file__).parents[2]
DEFINITIONS = ROOT / "pipeline" / "definitions" / "tasks"


@pytest.mark.parametrize("path", sorted(DEFINITIONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_definition_loads(path: Path) -> None:
    task = load_task(path.stem)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert task.model_dump(mode="json") == content
    assert all(template.format("xyzzy").count("xyzzy") == 1 for template in task.templates)


def test_every_file_is_a_task() -> None:
    assert task_names() == sorted(path.stem for path in DEFINITIONS.iterdir())


def test_unknown_task_names_the_legal_ones() -> None:
    with pytest.raises(UserError) as error:
        load_task("mnits")
    assert str(error.value) == f"unknown task 'mnits'; choose from {', '.join(task_names())}"


CONTENT: dict[str, Any] = {
    "name": "pets",
    "version": 1,
    "description": "pets",
    "classes": ["cat", "dog"],
    "templates": ["a {}"],
    "source": {"kind": "mini"},
    "origin": "here",
    "licence": "MIT",
    "citation": "none",
}
MISTAKES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no place for the class": ({"templates": ["a {}", "a photo"]}, ["templates", "'a photo'", "exactly one {}"]),
    "two places for the class": ({"templates": ["{} and {}"]}, ["templates", "'{} and {}'", "exactly one"]),
    "no templates": ({"templates": []}, ["templates", "[]"]),
    "one class": ({"classes": ["cat"]}, ["classes", "['cat']", "2"]),
    "class twice": ({"classes": ["cat", "cat"]}, ["classes", "same name"]),
    **{
        f"class twice, as {other!r}": ({"classes": ["caf\u00e9 x", other]}, ["classes", repr(other), "same name"])
        for other in (
            *(
                "Caf\u00e9 x",
                "caf\u00e9 x ",
                " caf\u00e9 x",
                "cafe\u0301 x",
                "caf\u00e9_x",
                "caf\u00e9  x",
                "caf&eacute; x",
            ),
            *("CAFE\u0301 X", "caf\u00e9\u00a0x".replace("\u00a0", "&nbsp;"), "\uff43af\u00e9 x"),
        )
    },
    "class of blanks": ({"classes": ["cat", "  "]}, ["classes.1", "blank"]),
    "class of two lines": ({"classes": ["cat", "a\nb"]}, ["classes.1", "one line"]),
    **{
        f"template {template!r}": ({"templates": [template]}, ["templates", "is not a template", "exactly one {}"])
        for template in (
            *(
                "a {x} {}",
                "{!r}",
                "{0} {}",
                "{:>99999999}",
                "{} {",
                "} {}",
                "{{}}",
                "{{}} {}",
                "{0}",
                "{.name}",
                "{{}",
                "{}}",
            ),
            *("{}{x!r:>{y}}", "a {} {}", "{ }", "%s", "a"),
        )
    },
    "directory twice": (
        {
            "source": {
                "kind": "folder",
                "path": "x",
                "directories": ["tv", "tv"],
                "image_size": None,
                "test_fraction": 0.2,
            }
        },
        ["same directory"],
    ),
    "class without a name": ({"classes": ["cat", ""]}, ["classes.1", "''"]),
    "class that YAML reads as a truth value": ({"classes": ["cat", False]}, ["classes.1", "False", "string"]),
    "version zero": ({"version": 0}, ["version", "0", "1"]),
    "no licence": ({"licence": ""}, ["licence", "''"]),
    "unknown key": ({"lizenz": "MIT"}, ["'lizenz'", "'MIT'", "licence"]),
    "unknown source": ({"source": {"kind": "web"}}, ["source", "'web'", "'mini'"]),
    "another name": ({"name": "dogs"}, ["'dogs'", "'pets'"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gives_one_line(mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change, texts = MISTAKES[mistake]
    monkeypatch.setattr(registry, "_DEFINITIONS", tmp_path)
    path = tmp_path / "pets.yaml"
    path.write_text(yaml.safe_dump(CONTENT))
    assert load_task("pets").classes == ["cat", "dog"]
    path.write_text(yaml.safe_dump({**CONTENT, **change}))
    with pytest.raises(UserError) as error:
        load_task("pets")
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    for text in texts:
        assert text in line, f"{text!r} is not in {line!r}"


@pytest.mark.parametrize(
    "names", [("cat", "Cat"), ("it\u2019s", "it's"), ("a  b", "a b"), ("\u00e9", "e\u0301"), ("R&amp;D", "R&D")]
)
def test_names_that_clip_reads_alike_are_comparable(names: tuple[str, str]) -> None:
    one, other = (open_clip.get_tokenizer("ViT-B-32")(f"a photo of a {name}.") for name in names)
    assert (one == other).all()
    assert comparable(names[0]) == comparable(names[1])


@pytest.mark.parametrize("names", [("cat", "cats"), ("a-b", "a b"), ("c", "c++"), ("caf\u00e9", "cafe"), ("1", "11")])
def test_names_that_differ_stay_apart(names: tuple[str, str]) -> None:
    assert comparable(names[0]) != comparable(names[1])


def test_names_are_printed_in_one_line() -> None:
    assert printable("a\nb\x1b[2J") == "a\\nb\\x1b[2J"
    assert printable(os.fsdecode(b"caf\xe9.png")) == "caf\\xe9.png"
    assert printable("caf\u00e9 1.png") == "caf\u00e9 1.png"
