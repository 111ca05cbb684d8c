"""The built wheel in an environment of its own: a study outside the repository, and a newer Tauflow for it."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tauflow.study.template import RECORD, template_files
from tests.conftest import ROOT
from tests.docs.pages import DOCS, blocks

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(900)]

CODE, DOWNLOADS = Path("pipeline/training/plan.py"), Path("pipeline/tasks/text.py")
OWN = Path("pipeline/definitions/tasks/own.yaml")


@dataclass(frozen=True)
class Installed:
    """The wheel, the environment it is installed in, and a study of the tiny suite made with it."""

    wheel: Path
    packages: Path
    python: Path
    study: Path

    def run(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, in the study unless told otherwise."""
        nothing = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GIT"))}
        return subprocess.run(
            [str(self.python.with_name(words[0])), *words[1:]],
            cwd=cwd or self.study,
            env={**nothing, "TAUFLOW_TRACKER": "off", "OMP_NUM_THREADS": "1", "GIT_CONFIG_GLOBAL": os.devnull},
            capture_output=True,
            text=True,
            check=False,
        )

    def lines(self, *words: str) -> str:
        """Run a program that must succeed, and return what it prints."""
        result = self.run(*words)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def commit(self, paths: Sequence[Path]) -> None:
        """Commit files of the study."""
        git(self.study, "add", *map(str, paths))
        git(self.study, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--message", "mine")


def git(directory: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=directory, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel alone in an environment, which sees the dependencies of this one, but not its editable Tauflow."""
    directory = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory)]
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = directory.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(directory / "env")], check=True)
    python = directory / "env" / "bin" / "python"
    install = [sys.executable, "-m", "uv", "pip", "install", "--no-deps", "--offline", "--python", str(python)]
    subprocess.run([*install, str(wheel)], capture_output=True, check=True)
    (packages,) = directory.glob("env/lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    made = Installed(wheel, packages, python, directory / "study")
    result = made.run("tauflow", "init", "study", "--suite", "tiny", cwd=directory)
    assert result.returncode == 0, result.stderr
    return made


def test_the_wheel_is_whole_and_leaks_no_name(installed: Installed) -> None:
    names = zipfile.ZipFile(installed.wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"tauflow", f"{installed.wheel.name.rsplit('-', 3)[0]}.dist-info"}
    template = {name for _, name in template_files(ROOT)} | {RECORD}
    assert {
        name.removeprefix("tauflow/template/") for name in names if name.startswith("tauflow/template/")
    } == template
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tauflow").rglob("*.py")}
    assert {*modules, "tauflow/py.typed"} <= set(names)


def test_a_study_is_a_repository_without_results(installed: Installed) -> None:
    study = installed.study
    record = json.loads((study / RECORD).read_text())
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", record["commit"])
    assert git(study, "status", "--porcelain") == ""
    assert git(study, "log", "--format=%s").splitlines() == ["Parameters", f"Tauflow {record['version']}"]
    assert set(git(study, "ls-files").splitlines()) == {name for _, name in template_files(ROOT)} | {
        RECORD,
        "params.yaml",
    }
    assert "\nsuite: tiny\n" in f"\n{(study / 'params.yaml').read_text()}"


def test_the_library_outside_a_study_is_the_wheels(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "pipeline").mkdir()  # a folder of somebody's that is no package
    code = "import tauflow, pipeline, artifacts.layout as l; print(pipeline.__file__, l.__file__, tauflow.__version__)"
    result = installed.run("python", "-c", code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[:2] == [
        str(installed.packages / "tauflow/template/pipeline/__init__.py"),
        str(installed.packages / "tauflow/template/artifacts/layout.py"),
    ]


def test_the_tutorial_in_a_study_then_a_newer_tauflow(installed: Installed) -> None:
    """Its commands up to the plan, a stage on the study's own code; then upgrades: refused, in conflict, merged."""
    study = installed.study
    page = next(block for block in blocks(DOCS / "tutorial.md", "bash") if "tauflow compose suite=tiny" in block.text)
    printed = [installed.lines(*command.split()) for command in page.text.splitlines()]
    assert "Suite tiny: 27 of 27 stages are stale" in printed[-1]
    marked = (study / DOWNLOADS).read_text() + '\nimport sys  # noqa\n\nprint("the study\'s own", file=sys.stderr)\n'
    (study / DOWNLOADS).write_text(marked)
    result = installed.run("tauflow", "repro", "--verbose", "download@optdigits")
    assert result.returncode == 0, result.stderr
    assert "the study's own" in result.stdout + result.stderr
    (study / CODE).write_text((study / CODE).read_text() + "# mine\n")
    (study / OWN).write_text("mine")
    installed.commit([CODE, DOWNLOADS, OWN, Path("dvc.lock"), Path("params.yaml"), Path("data/records")])
    assert "has Tauflow" in installed.lines("tauflow", "upgrade")

    errors = study / "pipeline" / "errors.py"
    whole = errors.read_text()
    errors.write_text("")
    older = installed.run("tauflow", "plan")
    errors.write_text(whole)
    assert older.returncode == 1
    assert re.fullmatch(
        r"error: this study's code does not fit this Tauflow \(.+\); run `tauflow upgrade`\n", older.stderr
    )

    template = installed.packages / "tauflow" / "template"
    (metadata,) = installed.packages.glob("tauflow-*.dist-info/METADATA")
    metadata.write_text(re.sub(r"^Version: .*", "Version: 9.9.9", metadata.read_text(), flags=re.M))
    old = (template / CODE).read_text()
    (template / CODE).write_text(f"{old}# theirs\n")
    (template / DOWNLOADS).write_text(f"# theirs\n{(template / DOWNLOADS).read_text()}")
    record = json.loads((template / RECORD).read_text())
    (template / RECORD).write_text(json.dumps({**record, "version": "9.9.9"}))
    refused = installed.run("tauflow", "plan")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: this study's code is of Tauflow {record['version']}, but 9.9.9 is")

    before = git(study, "rev-parse", "HEAD")
    conflict = installed.run("tauflow", "upgrade")
    assert conflict.returncode == 1
    assert conflict.stderr.startswith(f"error: upgrade: changed here and in Tauflow: {CODE}; nothing is merged yet")
    assert (git(study, "rev-parse", "HEAD"), git(study, "status", "--porcelain")) == (before, "")

    (template / CODE).write_text(old)
    printed = installed.lines("tauflow", "upgrade")
    assert f"Tauflow {record['version']} → 9.9.9: 2 files changed" in printed
    assert re.search(r"^  download: 1 stale: pipeline/tasks changed", printed, re.M)
    assert (study / DOWNLOADS).read_text() == f"# theirs\n{marked}"
    assert (study / CODE).read_text() == f"{old}# mine\n"
    assert (study / OWN).read_text() == "mine"
    assert git(study, "status", "--porcelain") == ""
    shutil.rmtree(study)
