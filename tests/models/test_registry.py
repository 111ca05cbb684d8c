"""Model definitions: every committed one loads, and a wrong one says what is wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.errors import UserError
from pipeline.models import load_model_definition, model_names, registry

DEFINITIONS = sorted(path.parent for path in registry.DEFINITIONS.glob("*/model.yaml"))


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.name)
def test_every_definition_loads(path: Path) -> None:
    model = load_model_definition(path.name)
    assert model.name == path.name
    assert all(0 < mean < 1 for mean in model.mean)
    assert all(0 < std < 1 for std in model.std)


def test_the_papers_models_are_there() -> None:
    assert {"ViT-B-32", "ViT-B-16", "ViT-L-14"} <= set(model_names())


def test_unknown_model_names_the_legal_ones() -> None:
    with pytest.raises(UserError) as error:
        load_model_definition("ViT-B-31")
    assert str(error.value) == f"unknown model 'ViT-B-31'; choose from {', '.join(model_names())}"


HUB = {"kind": "hub", "repository": "a/b", "filename": "c.safetensors", "revision": "0" * 40, "sha256": "0" * 64}
CONTENT: dict[str, Any] = {
    "name": "net",
    "version": 1,
    "architecture": "ViT-B-32",
    "weights": {"kind": "committed", "path": "data/net.safetensors", "sha256": "0" * 64},
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "licence": "MIT",
    "citation": "none",
}
MISTAKES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown kind of weights": ({"weights": {"kind": "web"}}, ["weights", "'web'", "'committed', 'hub'"]),
    "branch instead of a commit": ({"weights": {**HUB, "revision": "main"}}, ["revision", "'main'"]),
    "short hash": ({"weights": {**HUB, "sha256": "12ab"}}, ["sha256", "'12ab'"]),
    "pickled weights": ({"weights": {**HUB, "filename": "model.bin"}}, ["filename", "'model.bin'", "safetensors"]),
    "no file name": ({"weights": {k: v for k, v in HUB.items() if k != "filename"}}, ["filename", "missing"]),
    "key of the other kind": ({"weights": {**HUB, "path": "x"}}, ["weights", "path", "'x'"]),
    "two means": ({"mean": [0.5, 0.5]}, ["mean"]),
    "unknown key": ({"vocab": "x"}, ["'vocab'", "'x'", "vocabulary"]),
    "another name": ({"name": "nut"}, ["'nut'", "'net'"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gives_one_line(mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change, texts = MISTAKES[mistake]
    monkeypatch.setattr(registry, "DEFINITIONS", tmp_path)
    path = tmp_path / "net" / "model.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(CONTENT))
    assert load_model_definition("net").architecture == "ViT-B-32"
    path.write_text(yaml.safe_dump({**CONTENT, **change}))
    with pytest.raises(UserError) as error:
        load_model_definition("net")
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    for text in texts:
        assert text in line, f"{text!r} is not in {line!r}"
