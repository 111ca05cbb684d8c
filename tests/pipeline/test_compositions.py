"""Experiments under one composition after another, in one working tree."""

import io
import shutil
from pathlib import Path

import pandas as pd
import pytest

from pipeline.io.arrays import read_arrays, write_arrays
from pipeline.io.files import read_json
from pipeline.measurements import read_measurements, select
from tauflow.dvc.composition import compose
from tests.pipeline.conftest import OVERRIDES, ROOT, Project

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


def test_metrics_that_dvc_has_restored_stay_when_another_paradigm_runs(project: Project) -> None:
    """DVC once took them for its own and removed them, from the tree and from the experiment's commit."""
    project.repro()
    project.commit("commit")
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


def test_two_models_side_by_side(clone: Project) -> None:
    """The second one's tables are the first one's, under its name: comparison, summary and report are run."""
    definitions = clone.root / "pipeline" / "definitions" / "models"
    shutil.copytree(definitions / "mini-clip", definitions / "mini-clip-b")
    definition = (definitions / "mini-clip" / "model.yaml").read_text()
    renamed = definition.replace("name: mini-clip", "name: mini-clip-b")
    (definitions / "mini-clip-b" / "model.yaml").write_text(renamed)
    for kind in ("measurements", "analyses", "correctness", "heads"):
        shutil.copytree(clone.root / "data" / kind / "mini-clip", clone.root / "data" / kind / "mini-clip-b")
        for table in (clone.root / "data" / kind / "mini-clip-b").rglob("*.csv"):
            table.write_text(table.read_text().replace("mini-clip,", "mini-clip-b,"))
        for path in (clone.root / "data" / kind / "mini-clip-b").rglob("*.safetensors"):
            arrays, metadata = read_arrays(path)
            write_arrays(path, arrays, {**metadata, "model": "mini-clip-b"})
    (clone.root / "data" / "measurements" / "mini-clip-b" / "comparison.csv").unlink()
    compose(clone.root, [*OVERRIDES, "models=[mini-clip,mini-clip-b]"])
    clone.stage("comparison@mini-clip-b")
    for instance in ("summary", "report"):
        clone.run("dvc", "repro", "--single-item", instance)

    results = read_measurements(clone.root / "reports" / "results.csv")
    first, second = (select(results, model=model).drop(columns="model") for model in ("mini-clip", "mini-clip-b"))
    pd.testing.assert_frame_equal(first.reset_index(drop=True), second.reset_index(drop=True))
    metrics = read_json(clone.root / "reports" / "metrics.json")
    assert metrics["mini-clip"] == metrics["mini-clip-b"]
    summary = (clone.root / "reports" / "summary.md").read_text()
    assert [line for line in summary.splitlines() if line.startswith("**")] == ["**mini-clip**", "**mini-clip-b**"]
    assert "mini-clip-b" in (clone.root / "reports" / "index.html").read_text()
    compared = pd.read_csv(io.StringIO(clone.run("python", "-m", "tauflow.cli", "compare", "--format", "csv").stdout))
    paradigms = ["zero-shot", "standard", "posthoc", "tau_jp"]
    assert list(zip(compared["model"], compared["paradigm"], strict=True)) == [
        (model, paradigm) for model in ("mini-clip", "mini-clip-b") for paradigm in paradigms
    ]
