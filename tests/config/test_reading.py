"""YAML as DVC reads it, and in one short line what it is not."""

import time
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import parse_yaml as parse_as_dvc

from pipeline.config import Parameters, load_yaml, parse_yaml, read_yaml
from pipeline.config.reading import MAX_BYTES, MAX_DEPTH
from pipeline.errors import UserError

ROOT = Path(__file__).parents[2]
# What YAML 1.1 and 1.2 read differently.
DIALECT = {
    "010": 10,
    "0o10": 8,
    "1:30": "1:30",
    "190:20:30": "190:20:30",
    "yes": "yes",
    "on": "on",
    "N": "N",
    "true": True,
    "3e-4": 3e-4,
    "1_000": 1000,
    "0x1F": 31,
    "~": None,
    ".inf": float("inf"),
    "2026-01-01": None,
}


@pytest.mark.parametrize("text", DIALECT)
def test_values_are_those_that_dvc_reads(text: str) -> None:
    content = parse_yaml(f"a: {text}", "x")
    assert content == parse_as_dvc(f"a: {text}", "x")
    if text != "2026-01-01":
        assert content == {"a": DIALECT[text]}


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml", "dvc.lock", "conf/config.yaml"])
def test_files_of_the_project_are_those_that_dvc_reads(name: str) -> None:
    assert read_yaml(ROOT / name) == parse_as_dvc((ROOT / name).read_text(encoding="utf-8"), name)


def nested_aliases() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    return "\n".join(lines)


BROKEN: dict[str, str] = {
    "the same key twice": "seed: 0\nseed: 1",
    "the same nested key twice": "a: {b: 1, b: 1}",
    "not closed": "tasks: [a, b",
    "tab": "\t- x",
    "two documents": "a: 1\n---\nb: 2",
    "deep brackets": "[" * 100_000,
    "deep and closed": "[" * 50_000 + "]" * 50_000,
    "deep dashes": "- " * 400_000,
    "deep braces": "{a: " * 100_000,
    "nested aliases": nested_aliases(),
    "an alias of itself": "a: &a [*a]",
    "many aliases": "a: &a [1]\n" + "\n".join(f"b{i}: *a" for i in range(1000)),
    "an alias of nothing": "a: *b",
    "a long quoted text": '"' + "x" * 500_000,
    "a long key twice": "k" * 500 + ": 1\n" + "k" * 500 + ": 2",
    "a long number": "a: " + "9" * 5000,
    "not a date": "a: 2026-13-45",
    "not a number": "a: !!int x",
    "not a truth value": "a: !!bool x",
    "a tag of Python": "a: !!python/object/apply:os.system [touch PWNED]",
    "an unknown tag": "a: !secret x",
    "NUL": "a: \x00",
    "ESC": "a: \x1b[31m",
    "a key that is a mapping": "? {a: 1}\n: 1",
    "a lone surrogate": "a: \ud800",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_yaml_is_one_short_line(kind: str) -> None:
    began = time.monotonic()
    with pytest.raises(UserError) as error:
        parse_yaml(BROKEN[kind], "params.yaml")
    assert str(error.value).startswith("params.yaml: not valid YAML: ")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 300
    assert time.monotonic() - began < 5


def test_anchors_are_read() -> None:
    """dvc.yaml may use them: flat ones cost no more than they say."""
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: *a", "x")["b"] == {"x": 1, "y": 2}
    assert parse_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH, "x")


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("a: " + "x" * MAX_BYTES)
    with pytest.raises(UserError, match=r"params\.yaml: \d+ bytes, more than the 1000000 that are read") as error:
        read_yaml(path)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("content", ["seed: " + "x" * 900_000, "seed: [" + "1, " * 200_000 + "1]", "? " + "x" * 1000])
def test_a_large_value_is_not_repeated(content: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        load_yaml(path, Parameters)
    assert len(str(error.value)) < 700  # the legal keys take 400


@pytest.mark.parametrize(
    "make", [Path.mkdir, lambda path: path.symlink_to(path), lambda path: path.write_bytes(b"\xff\xfe")]
)
def test_what_is_not_a_text_file_is_one_line(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    make(path)
    with pytest.raises(UserError) as error:
        load_yaml(path, Parameters)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
