"""A copy of the project in which the real ``dvc repro`` has run on the tiny suite, once for all tests here."""

import fcntl
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tauflow.dvc.composition import compose
from tests.forks import ForkServer

ROOT = Path(__file__).parents[2]
PROJECT = [
    "artifacts",
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
    """A working copy of the project; its stages and commands are forks of a process, if there is one."""

    root: Path
    forks: ForkServer | None = None

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the copy with this environment's programs first on the path."""
        programs = [str(self.forks.programs)] if self.forks else []
        path = os.pathsep.join([*programs, str(Path(sys.executable).parent), os.environ["PATH"]])
        served = self.forks.serve(self.root) if self.forks else {}
        result = subprocess.run(
            command,
            cwd=self.root,
            env={**os.environ, "PATH": path, "TAUFLOW_TRACKER": "off", **served, **environment},
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

    def stage(self, instance: str, *before: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a stage instance by hand, as DVC would start it; ``before`` comes before the command."""
        entry = yaml.safe_load((self.root / "dvc.yaml").read_text())["stages"][instance.split("@")[0]]
        return self.run(*before, *entry.get("do", entry)["cmd"].split(), instance, check=check)

    def commit(self, message: str) -> None:
        """Commit all that git does not ignore."""
        self.run("git", "add", "--all")
        self.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", message)

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
    project.commit("copy")
    return project


def _only_committed(directory: str, names: list[str]) -> set[str]:
    return set(names) - {".gitignore", "mini"} if Path(directory) == ROOT / "data" else set()


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory, forks: ForkServer) -> Project:
    """The tiny suite, reproduced and committed once by all processes of tests together, of which each has a copy.

    Tests must leave it as they found it.
    """
    own = tmp_path_factory.mktemp("tauflow")
    common = own.parents[1] if "PYTEST_XDIST_WORKER" in os.environ else own
    whole = common / "reproduced.whole"
    with (common / "reproduced.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.rmtree(common / "reproduced", ignore_errors=True)
            project = copy_project(common / "reproduced")
            project.repro()
            project.commit("reproduced")
            whole.touch()
    return Project(copied(common / "reproduced", own / "project"), forks)


@pytest.fixture
def clone(reproduced: Project, tmp_path: Path) -> Project:
    """A throw-away copy of the reproduced project, artifacts and cache included."""
    return Project(copied(reproduced.root, tmp_path / "clone"), reproduced.forks)


def copied(source: Path, destination: Path) -> Path:
    """Copy a project, except for the process that its stages forked from: it may not have ended yet."""
    return shutil.copytree(source, destination, symlinks=True, ignore=shutil.ignore_patterns("preloaded*"))
