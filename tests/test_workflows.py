"""What GitHub runs: no more rights than needed, no text of a user in a shell line, and only tools that exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TRIGGERS = {
    "ci": {"push", "pull_request"},
    "docs": {"push", "pull_request"},
    "nightly": {"schedule", "workflow_dispatch"},
    "stage": {"workflow_dispatch"},
}


def load(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in load(path)["jobs"].values() for step in job["steps"]]


def test_the_workflows_and_when_they_run() -> None:
    # YAML reads the key `on` as a truth value.
    assert {path.stem: set(load(path)[True]) for path in WORKFLOWS} == TRIGGERS
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
def test_what_is_piped_keeps_its_exit_code_and_exists(path: Path) -> None:
    for step in steps(path):
        script = step.get("run", "")
        assert "|" not in script.replace("||", "") or step["shell"] == "bash"
        for tool in re.findall(r"-m tools\.(\w+)", script):
            assert (ROOT / "tools" / f"{tool}.py").exists()


def test_ci_runs_two_stages_again() -> None:
    assert "\n.ci/rerun_stages\n" in (ROOT / ".ci" / "run").read_text()
    rerun = re.findall(r"^rerun (\S+) 0$", (ROOT / ".ci" / "rerun_stages").read_text(), re.MULTILINE)
    assert len(set(rerun)) >= 2
