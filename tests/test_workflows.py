"""GitHub's workflows have minimal permissions, no user text in shell lines, and only tools that exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def load(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in load(path)["jobs"].values() for step in job["steps"]]


def test_what_is_pushed_is_tested() -> None:
    content = load(ROOT / ".github/workflows/ci.yml")
    assert {"push", "pull_request"} <= set(content[True])  # YAML reads the key `on` as a truth value
    assert any(step.get("run") == "bash .ci/run" for step in steps(ROOT / ".github/workflows/ci.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_reads_only_and_ends(path: Path) -> None:
    content = load(path)
    assert content["permissions"] == {"contents": "read"}
    assert all("permissions" not in job and job["timeout-minutes"] <= 180 for job in content["jobs"].values())
    used = [step["uses"] for step in steps(path) if "uses" in step]
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in used)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_expression_is_part_of_a_shell_line(path: Path) -> None:
    """Whatever a user types reaches a command through its environment, quoted."""
    scripts = [step["run"] for step in steps(path) if "run" in step]
    assert scripts
    for script in scripts:
        assert "${{" not in script
        assert all(quoted for quoted, _ in re.findall(r'(")?\$(\w+)', script))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_piped_commands_exist_and_keep_their_exit_code(path: Path) -> None:
    for step in steps(path):
        script = step.get("run", "")
        assert "|" not in script.replace("||", "") or step["shell"] == "bash"
        for tool in re.findall(r"-m tools\.(\w+)", script):
            assert (ROOT / "tools" / f"{tool}.py").exists()


def test_ci_tries_a_reproduced_tree_before_the_tests() -> None:
    """It refuses a stale lock, and runs two stages again."""
    assert "\n.ci/reproduced_tree\nmake test\n" in (ROOT / ".ci" / "run").read_text()
    script = (ROOT / ".ci" / "reproduced_tree").read_text()
    assert "\npython -m tools.check_lock\n" in script
    assert len(set(re.findall(r"^rerun (\S+) 0$", script, re.MULTILINE))) >= 2
