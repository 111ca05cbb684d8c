"""A stage's arguments are found by its instance's name, as DVC names it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from artifacts.instances import read_instances
from pipeline.config import load_parameters
from tauflow.running.stage import run_stage

ROOT = Path(__file__).parents[1]
ODD = ["pets;touch PWNED", "$(touch PWNED)", "`touch PWNED`", "'; touch PWNED; '", "a\ntouch PWNED", "-x", "pets@2"]
# Made by a run; not of the project.
OWN = {".dvc", ".tauflow", "__pycache__"}


def test_instances_are_those_of_dvc(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By DVC's own resolution, in its order, with their parameters."""
    monkeypatch.chdir(root)
    with Repo() as repo:
        stages = {
            str(stage.addressing): [p for d in stage.deps for p in getattr(d, "params", [])]
            for stage in repo.index.stages
        }
    instances = read_instances(load_parameters(root / "params.yaml"))
    assert {name: sorted(instance.params) for name, instance in instances.items()} == {
        name: sorted(params) for name, params in stages.items()
    }
    assert instances["alpha_search@mini-clip-posthoc"].keys["recipe"] == "standard"
    assert instances["report"].keys == {}


@pytest.mark.parametrize("name", ["", "finetune", "finetune@", "finetune@mini-clip", "nope@x", "addition@mini-clip-x"])
def test_an_unknown_instance_is_one_line(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setattr("sys.argv", ["stages.addition", *([name] if name else [])])
    monkeypatch.delenv("DVC_STAGE", raising=False)
    with pytest.raises(SystemExit), run_stage():
        pytest.fail("the body must not run")
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.endswith("; `dvc stage list` shows them\n")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create the files that DVC needs to run the stage `download`, without git."""
    path = tmp_path_factory.mktemp("project")
    for name in ("artifacts", "stages", "tauflow", "pipeline"):
        shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", path)
    (path / "data" / "mini").mkdir(parents=True)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["dvc", "init", "--no-scm", "--quiet"], cwd=path, env=environment, check=True)
    return path


def files(project: Path) -> set[Path]:
    return {path for path in project.rglob("*") if not OWN & set(path.parts)}


@pytest.mark.parametrize("name", ODD)
def test_nothing_of_a_hand_edited_file_reaches_a_shell(name: str, project: Path) -> None:
    """Plain `dvc repro`, which checks nothing: the stage refuses the name, and no shell has seen it."""
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["tasks"].append(name)
    params["derived"]["datasets"].append(name)
    with (project / "params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(params, file)
    definition = project / "pipeline" / "definitions" / "tasks" / f"{name}.yaml"
    definition.write_text("name: x\n")
    before = files(project)
    result = subprocess.run(
        ["dvc", "repro", "-s", f"download@{name}"],
        cwd=project,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "TAUFLOW_TRACKER": "off",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert files(project) == before
    # A name with an @ is another instance to DVC, which does not find it.
    assert ("is not a name" in result.stderr) == ("@" not in name)
    definition.unlink()
