"""Task definitions: every committed one loads, and a wrong one says what is wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.errors import UserError
from pipeline.tasks import load_task, registry, task_names

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
    assert str(error.value) == f"task 'mnits' is unknown; legal are {', '.join(task_names())}"


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
    "no place for the class": ({"templates": ["a {}", "a photo"]}, ["templates", "'a photo'", "{}"]),
    "two places for the class": ({"templates": ["{} and {}"]}, ["templates", "'{} and {}'", "exactly one"]),
    "no templates": ({"templates": []}, ["templates", "[]"]),
    "one class": ({"classes": ["cat"]}, ["classes", "['cat']", "2"]),
    "class twice": ({"classes": ["cat", "cat"]}, ["classes", "same name"]),
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
