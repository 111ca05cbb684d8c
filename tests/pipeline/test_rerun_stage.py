"""One stage run again by the tool of the manually started workflow, and its metrics against the committed ones."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.measurements import read_measurements
from tests.pipeline.conftest import ROOT, Project
from tools.rerun_stage import Change, locked_outs, named_intervals

pytestmark = pytest.mark.pipeline

STAGE = "addition@mini-clip-standard"
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/stage.yml").read_text())
SCRIPT = WORKFLOW["jobs"]["stage"]["steps"][-1]["run"]
METRICS = Path("reports/mini-clip/standard/addition.json")


@pytest.fixture
def project(clone: Project) -> Project:
    """The finished project with the tool in it."""
    shutil.copytree(ROOT / "tools", clone.root / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    return clone


def rerun(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return project.run(sys.executable, "-m", "tools.rerun_stage", *arguments, check=False, PATH="/usr/bin:/bin")


def test_the_workflow_pulls_the_inputs_of_a_stage_alone_and_nothing_moves(project: Project, tmp_path: Path) -> None:
    """The shell script of stage.yml itself, in a fresh clone."""
    remote, summary, fresh = str(tmp_path / "storage"), tmp_path / "summary.md", Project(tmp_path / "fresh")
    project.run("dvc", "remote", "add", "--local", "--default", "storage", remote)
    project.run("dvc", "push")
    project.commit("commit")
    project.run("git", "clone", "--quiet", str(project.root), str(fresh.root))
    (fresh.root / ".venv").symlink_to(sys.prefix)
    environment = {"STAGE": STAGE, "REMOTE_URL": remote, "GITHUB_STEP_SUMMARY": str(summary)}
    result = fresh.run("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", SCRIPT, check=False, **environment)
    assert (result.returncode, result.stderr.count("Running stage")) == (0, 1), result.stderr
    lines = summary.read_text().splitlines()
    assert lines[0] == f"## {STAGE}: nothing failed"
    metrics = [line for line in lines if line.startswith("| mini-clip/standard/addition.")]
    assert len(metrics) == 5
    assert all(line.endswith("| the same |") for line in metrics)
    files = [line for line in lines if line.startswith(("| data/", "| reports/"))]
    assert len(files) == 3
    assert all(line.endswith("| the same bytes |") for line in files)
    assert (fresh.root / "data/task_vectors/mini-clip/standard/textures.safetensors").exists()
    assert not (fresh.root / "data/checkpoints/mini-clip").exists()
    assert not (fresh.root / "data/task_vectors/mini-clip/tau_jp").exists()


def test_a_metric_that_is_not_the_committed_one_fails(project: Project) -> None:
    content = json.loads((project.root / METRICS).read_text())
    content["addition"]["tuned"]["accuracy"] -= 0.02
    (project.root / METRICS).write_text(json.dumps(content))
    project.commit("commit")
    result = rerun(project, STAGE)
    assert result.returncode == 1
    assert result.stdout.startswith(f"## {STAGE}: **moved**\n")
    (line,) = [line for line in result.stdout.splitlines() if line.endswith("| outside |")]
    assert "addition.tuned.accuracy" in line
    assert rerun(project, "--tolerance", "0.03", STAGE).returncode == 0


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("addition@mini-clip-nkt", "addition@mini-clip-"),
        ("addition@mini-clip-ntk", "present params.yaml"),
        ("addition", "no such stage"),
        ("$(touch injected); echo", "no such stage"),
    ],
)
def test_what_is_no_stage_is_one_line_and_exit_code_2(project: Project, stage: str, message: str) -> None:
    result = rerun(project, stage)
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {stage}: ")
    assert message in line
    assert not (project.root / "injected").exists()


def test_an_option_in_place_of_a_stage_is_refused(project: Project) -> None:
    assert rerun(project, "--", "--force").returncode == 2
    assert rerun(project).returncode == 2


def test_inputs_in_the_cache_need_no_remote(project: Project, tmp_path: Path) -> None:
    project.run("dvc", "remote", "add", "--local", "--default", "storage", str(tmp_path / "empty"))
    (project.root / "data/tasks/card/emoji.json").unlink()
    result = rerun(project, "head@mini-clip-emoji")
    assert result.returncode == 0, result.stderr


def test_inputs_that_are_nowhere_are_named_or_made(project: Project) -> None:
    """Without a remote and without a cache, as in a fresh clone."""
    shutil.rmtree(project.root / ".dvc" / "cache")
    (project.root / "data/heads/mini-clip/emoji.safetensors").unlink()
    stage = "head@mini-clip-emoji"
    (project.root / "data/tasks/card/emoji.json").unlink()
    result = rerun(project, stage)
    assert result.returncode == 2
    line = result.stderr.splitlines()[-1]
    assert line.startswith(f"error: {stage}: data/tasks/card/emoji.json ")
    assert "--upstream" in line
    result = rerun(project, "--upstream", stage)
    assert result.returncode == 0, result.stderr
    assert "| data/heads/mini-clip/emoji.safetensors | the same bytes |" in result.stdout


def test_a_stage_that_fails_is_not_compared(project: Project) -> None:
    (project.root / "stages" / "summary.py").write_text("raise SystemExit(1)\n")
    result = rerun(project, "summary")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1] == "error: summary: `dvc repro` failed, as it says above"


def test_every_metric_with_an_interval_in_the_results_is_found_there(reproduced: Project) -> None:
    """Metrics files name the numbers of results.csv; only choices, and accuracies on val, have no interval."""
    intervals = named_intervals(read_measurements(reproduced.root / "reports" / "results.csv"))
    for path in (reproduced.root / "reports" / "mini-clip" / "tau_jp").glob("*.json"):
        for key, value in flatten(json.loads(path.read_text())).items():
            interval = intervals.get(f"mini-clip/tau_jp/{key}")
            without = path.stem == "alpha" or key.endswith((".alpha", ".area", "tau_jp.drop", "tau_jp.tau_jp"))
            assert (interval is None) == without, key
            assert interval is None or interval[0] == value


def flatten(content: dict, prefix: str = "") -> dict[str, float]:
    """By dotted names."""
    flat = {}
    for key, value in content.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


@pytest.mark.parametrize(
    ("committed", "new", "verdict"),
    [
        (0.5, 0.5, "the same"),
        (0.5, 0.51, "inside"),
        (0.5, 0.6, "outside"),
        (0.5, float("nan"), "outside"),
        (float("nan"), float("nan"), "the same"),
        (None, 0.5, "new"),
        (0.5, None, "gone"),
    ],
)
def test_verdicts(committed: float | None, new: float | None, verdict: str) -> None:
    bounds = (None, None) if committed is None else (0.45, 0.55)
    assert Change("accuracy", committed, new, *bounds).verdict == verdict


@pytest.mark.parametrize(
    ("choice", "another_choice", "new", "verdict"),
    [
        (True, False, 0.6, "another choice of α"),
        (True, False, 0.5, "the same"),
        (True, False, float("nan"), "outside"),
        (False, True, 0.6, "outside, at another α"),
        (False, True, 0.51, "inside"),
        (False, False, 0.6, "outside"),
    ],
)
def test_verdicts_of_choices_and_of_what_follows(choice: bool, another_choice: bool, new: float, verdict: str) -> None:
    assert Change("alpha", 0.5, new, 0.45, 0.55, choice, another_choice).verdict == verdict


def test_a_choice_that_moved_by_a_step_is_reported_and_does_not_fail(project: Project) -> None:
    """Metrics of the search itself, and of the negation whose α differs from the committed one."""
    alpha = project.root / "reports/mini-clip/standard/alpha.json"
    committed = json.loads(alpha.read_text())
    other = json.loads(alpha.read_text())
    other["alpha"]["negation"]["textures"] += 0.25
    other["alpha"]["addition"] += 0.25
    other["val"]["accuracy"] += 0.2
    alpha.write_text(json.dumps(other))
    project.commit("commit")
    result = rerun(project, "alpha_search@mini-clip-standard")
    assert result.returncode == 0, result.stdout
    rows = {line.split(" | ")[0]: line for line in result.stdout.splitlines() if line.startswith("| mini-clip/")}
    assert rows["| mini-clip/standard/alpha.negation.textures"].endswith("| another choice of α |")
    assert rows["| mini-clip/standard/val.accuracy"].endswith("| outside, at another α |")
    metrics = json.loads((project.root / "reports/mini-clip/standard/negation.json").read_text())
    metrics["negation"]["tuned"]["target"] += 0.2
    (project.root / "reports/mini-clip/standard/negation.json").write_text(json.dumps(metrics))
    project.commit("commit")
    assert json.loads(alpha.read_text()) == committed
    assert rerun(project, "negation@mini-clip-standard").returncode == 1  # at the committed choice


def test_a_stage_that_the_lock_does_not_have() -> None:
    assert locked_outs(None, STAGE) == {}
    assert locked_outs("schema: '2.0'\n", STAGE) == {}
