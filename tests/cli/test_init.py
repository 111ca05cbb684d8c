"""Mistakes of ``tauflow init`` and ``tauflow upgrade``; tests/test_wheel.py makes a study, and brings it up to date."""

import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Run


def only_line(result: object) -> str:
    (line,) = result.stderr.splitlines()  # pyright: ignore[reportAttributeAccessIssue]
    return line


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_place_that_is_taken(kind: str, tmp_path: Path, run: Run) -> None:
    taken = tmp_path / "study"
    if kind == "folder":
        (taken / "mine").mkdir(parents=True)
    else:
        taken.write_text("mine")
    result = run("init", str(taken))
    assert result.exit_code == 1
    assert only_line(result) == f"error: {taken}: exists and is not an empty directory; choose another one"


def test_a_place_in_another_repository(tmp_path: Path, run: Run) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    result = run("init", str(tmp_path / "a" / "study"))
    assert result.exit_code == 1
    assert "lies in the git repository" in only_line(result)
    assert not (tmp_path / "a").exists()


def test_an_unknown_suite_leaves_nothing(tmp_path: Path, run: Run) -> None:
    result = run("init", str(tmp_path / "study"), "--suite", "tyni")
    assert result.exit_code == 1
    assert only_line(result).startswith("error: suite: unknown option 'tyni'; choose from mini, paper14")
    assert not list(tmp_path.iterdir())


def test_upgrade_where_no_study_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("upgrade")
    assert result.exit_code == 1
    assert only_line(result).startswith("error: tauflow.json: not here")
