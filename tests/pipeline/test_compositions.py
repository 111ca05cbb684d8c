"""Experiments under one composition after another, in one working tree."""

import shutil
from pathlib import Path

import pytest

from tauflow.composition import compose
from tests.pipeline.conftest import ROOT, Project

pytestmark = pytest.mark.pipeline

# As evaluations: a table that DVC keeps, and metrics that git keeps.
STAGES = """
stages:
  evaluate:
    matrix:
      paradigm: ${paradigms}
    cmd: >-
      mkdir -p data reports/m/${item.paradigm} && grep ^seed params.yaml > data/${item.paradigm}.csv
      && cp data/${item.paradigm}.csv reports/m/${item.paradigm}/addition.json
    deps: [source]
    params: [seed]
    outs:
      - data/${item.paradigm}.csv
      - reports/m/${item.paradigm}/addition.json: {cache: false}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A repository with trivial stages under the project's own compositions."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "dvc.yaml").write_text(STAGES)
    (tmp_path / "source").touch()
    (tmp_path / ".gitignore").write_text("/data\n__pycache__/\n")
    compose(tmp_path, ["suite=tiny", "paradigm=ntk"])
    project = Project(tmp_path)
    project.run("git", "init", "--quiet", ".")
    project.run("dvc", "init", "--quiet")
    shutil.copy(ROOT / ".dvc" / "config", tmp_path / ".dvc" / "config")
    return project


def commit(project: Project) -> None:
    project.run("git", "add", "--all")
    project.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "commit")


def test_metrics_that_dvc_has_restored_stay_when_another_paradigm_runs(project: Project) -> None:
    """DVC once took them for its own and removed them, from the tree and from the experiment's commit."""
    project.repro()
    commit(project)
    metrics = project.root / "reports" / "m" / "ntk" / "addition.json"
    metrics.unlink()
    (project.root / "data" / "ntk.csv").unlink()
    assert "is cached - skipping run" in project.run("dvc", "repro").stdout
    output = project.run("dvc", "exp", "run", "-n", "other", "-S", "suite=tiny", "-S", "paradigm=standard").stdout
    assert "Running stage 'evaluate@standard'" in output
    assert metrics.exists()
    assert not (project.root / "data" / "ntk.csv").exists()  # DVC does remove its own: they are in the cache
    tracked = project.run("git", "ls-tree", "-r", "--name-only", "HEAD", "reports").stdout.split()
    assert tracked == ["reports/m/ntk/addition.json"]
    reference = project.run("git", "for-each-ref", "--format=%(objectname)", "refs/exps/**/other").stdout.strip()
    kept = project.run("git", "ls-tree", "-r", "--name-only", reference, "reports").stdout.split()
    assert kept == ["reports/m/ntk/addition.json", "reports/m/standard/addition.json"]
