"""A copy of the project in which the real ``dvc repro`` has run on the tiny suite, once for all tests here."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tauflow.composition import compose

ROOT = Path(__file__).parents[2]
PROJECT = [
    "conf",
    "data",
    "pipeline",
    "benchmarks/records",
    "reports/seeds",
    "stages",
    "tauflow",
    "dvc.yaml",
    ".dvcignore",
    ".gitignore",
    "pyproject.toml",
]
# One paradigm that trains in weight space, one that trains nothing, one that sees other tasks' images.
OVERRIDES = ["suite=tiny", "paradigm=main", "paradigms=[standard,posthoc,tau_jp]"]
NOT_COPIED = shutil.ignore_patterns("__pycache__")


@dataclass(frozen=True)
class Project:
    """A working copy of the project."""

    root: Path

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the copy with this environment's programs first on the path."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        result = subprocess.run(
            command,
            cwd=self.root,
            env={**os.environ, "PATH": path, "TAUFLOW_TRACKER": "off", **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if check and result.returncode != 0:
            raise AssertionError(f"{' '.join(command)} failed:\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}")
        return result

    def repro(self, *arguments: str) -> list[str]:
        """``dvc repro``; returns the stage instances that ran, in order."""
        output = self.run("dvc", "repro", *arguments).stdout
        return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]

    def experiment(self, *overrides: str) -> list[str]:
        """``dvc exp run`` with these on top of the project's own parameters; returns the stage instances that ran."""
        settings = [argument for override in (*OVERRIDES, *overrides) for argument in ("-S", override)]
        output = self.run("dvc", "exp", "run", *settings).stdout
        return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]

    def lock(self) -> dict[str, dict]:
        """The stages of ``dvc.lock``."""
        return yaml.safe_load((self.root / "dvc.lock").read_text())["stages"]

    def set_parameter(self, key: str, value: object) -> None:
        """Change one entry of ``params.yaml``."""
        path = self.root / "params.yaml"
        content = yaml.safe_load(path.read_text())
        section = content
        *parents, last = key.split(".")
        for parent in parents:
            section = section[parent]
        section[last] = value
        path.write_text(yaml.safe_dump(content, sort_keys=False))


def copy_project(destination: Path) -> Project:
    """Copy what is committed, without any artifact, as a git repository with an initialised DVC."""
    for name in PROJECT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, destination / name, ignore=NOT_COPIED if name != "data" else _only_committed)
        else:
            shutil.copy(source, destination / name)
    (destination / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", destination / ".dvc" / "config")
    compose(destination, OVERRIDES)
    project = Project(destination)
    project.run("git", "init", "--quiet", ".")
    project.run("git", "add", "--all")
    project.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "copy")
    return project


def _only_committed(directory: str, names: list[str]) -> set[str]:
    return set(names) - {".gitignore", "mini"} if Path(directory) == ROOT / "data" else set()


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny suite, reproduced and committed once. Tests must leave it as they found it."""
    project = copy_project(tmp_path_factory.mktemp("tauflow") / "project")
    project.repro()
    project.run("git", "add", "--all")
    project.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "reproduced")
    return project


@pytest.fixture
def clone(reproduced: Project, tmp_path: Path) -> Project:
    """A throw-away copy of the reproduced project, artifacts and cache included."""
    # The process that stages forked from may not have ended yet; its socket cannot be copied.
    shutil.copytree(reproduced.root, tmp_path / "clone", symlinks=True, ignore=shutil.ignore_patterns("preloaded"))
    return Project(tmp_path / "clone")
