"""Entries of ``dvc.lock`` written into its text, against DVC's own writer: the same bytes."""

import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tauflow.dvc import lock_writer
from tauflow.dvc.lock_writer import FORM, updated
from tests.conftest import ROOT

COMMITTED = (ROOT / "dvc.lock").read_text(encoding="utf-8")


def as_dvc(text: str, entries: dict[str, Any]) -> str:
    """What DVC's own writer makes of a lock: all of it parsed, and written again."""
    data: dict[str, Any] = parse_yaml_for_update(text, "dvc.lock") if text else {"schema": "2.0"}
    data.setdefault("stages", {}).update(entries)
    return dumps_yaml(data)


def entry(**content: Any) -> OrderedDict[str, Any]:
    return OrderedDict({"cmd": "python -m stages.x", **content})


@pytest.fixture
def form(tmp_path: Path) -> Path:
    return tmp_path / FORM


def test_the_committed_lock_keeps_its_bytes(form: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry is replaced by itself, by another, and one is added; the text is checked once."""
    name = "addition@mini-clip-ntk"
    assert updated(COMMITTED, {name: yaml.safe_load(COMMITTED)["stages"][name]}, "dvc.lock", form) == COMMITTED

    changed = {name: entry(outs=[{"path": "a", "md5": "0" * 32, "size": 1}]), "new": entry()}
    expected = as_dvc(COMMITTED, changed)
    checked: list[str] = []

    def parse(text: str, name: str) -> Any:
        checked.append(text)
        return parse_yaml_for_update(text, name)

    monkeypatch.setattr(lock_writer, "parse_yaml_for_update", parse)
    assert updated(COMMITTED, changed, "dvc.lock", form) == expected
    assert max(map(len, checked)) < 1000  # the new entries alone


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.floats(allow_nan=False), st.text(max_size=120)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc_.", min_size=1), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.from_regex(r"[a-z][a-z0-9_@. -]{0,30}", fullmatch=True).map(str.strip)
ENTRIES = st.dictionaries(NAMES, st.builds(entry, params=VALUES), min_size=1, max_size=3)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(ENTRIES, min_size=1, max_size=4))
def test_any_entries_in_any_order(steps: list[dict[str, Any]], form: Path) -> None:
    ours = theirs = ""
    for entries in steps:
        ours, theirs = updated(ours, entries, "dvc.lock", form), as_dvc(theirs, entries)
        assert ours == theirs


@pytest.mark.parametrize(
    "text",
    [
        "",
        "schema: '2.0'\nstages: {}\n",
        "# mine\nschema: '2.0'\nstages:\n  a:\n    cmd: x\n",
        "schema: '2.0'\nstages:\n  a:\n    cmd: x # mine\n  b:\n    cmd: y\n",
        "schema: '2.0'\nstages:\n  a:\n    cmd: x\n\n    # mine\n  b:\n    cmd: y\n",
        "schema: '2.0'\nstages:\n    a:\n        cmd: x\n    b:\n        cmd: y\n",
        "schema: '2.0'\nstages:\n  a: &shared\n    cmd: x\n  b: *shared\n",
        "stages:\n  a:\n    cmd: x\nschema: '2.0'\n",
        "schema: '2.0'\nstages:\n  b:\n    cmd: x\ndatasets:\n- name: d\n",
        "schema: '2.0'\nstages:\n  a:\n    cmd: |\n      first\n\n      a:\n      second\n",
        "schema: '2.0'\nstages:\n  'a':\n    cmd: \"x\"\n",
        "schema: '2.0'\nstages:\n  a:\n    cmd: sleep 1 && echo *\n",
    ],
)
def test_a_text_of_another_form_is_written_as_dvc_does(text: str, form: Path) -> None:
    for entries in ({"a": entry(params={"p": [1, 2]})}, {"c": entry()}, {"b": entry(params=1.5)}):
        expected = as_dvc(text, entries)
        text = updated(text, entries, "dvc.lock", form)
        assert text == expected


def test_another_writers_text_is_checked_again(form: Path) -> None:
    """A text that is known is of this form; any other, such as one that a user has edited since, is looked at."""
    text = updated(as_dvc("", {"a": entry()}), {"b": entry()}, "dvc.lock", form)
    edited = text.replace("    cmd: python -m stages.x\n", "    cmd:   python -m stages.x\n", 1)
    assert updated(edited, {"c": entry()}, "dvc.lock", form) == as_dvc(edited, {"c": entry()})
    shutil.rmtree(form.parent)
    assert updated(text, {"c": entry()}, "dvc.lock", form) == as_dvc(text, {"c": entry()})
