"""Commands in surroundings that are not ours: a hook of git's, other line ends, another locale, another `pipeline`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from artifacts.workspace import git

ROOT = Path(__file__).parents[1]
GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main")
TAUFLOW = (sys.executable, "-m", "tauflow.cli")


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def repository(path: Path) -> str:
    """Make a repository with one commit; return that."""
    path.mkdir()
    (path / "name").write_text(path.name)
    for arguments in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "-m", path.name)):
        assert run(*GIT, *arguments, cwd=path).returncode == 0
    return run("git", "rev-parse", "HEAD", cwd=path).stdout.strip()


@pytest.mark.parametrize("variables", [["GIT_DIR"], ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"]])
def test_a_hook_of_another_repository_does_not_change_ours(
    variables: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = repository(tmp_path / "ours"), repository(tmp_path / "theirs")
    places = {"GIT_DIR": ".git", "GIT_WORK_TREE": "", "GIT_INDEX_FILE": ".git/index", "GIT_PREFIX": "sub"}
    for variable in variables:
        monkeypatch.setenv(variable, str(tmp_path / "theirs" / places[variable]))
    monkeypatch.chdir(tmp_path / "ours")
    revision = git("rev-parse", "HEAD")
    assert revision
    assert revision.decode().strip() == ours != theirs
    assert git("cat-file", "blob", "HEAD:./name") == b"ours"


def test_no_git_and_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert git("rev-parse", "HEAD") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git("rev-parse", "HEAD") is None


def test_a_clone_with_other_line_ends_has_the_same_bytes(tmp_path: Path) -> None:
    """DVC hashes files as they lie there, so a clone with ``core.autocrlf=true`` would find every stage stale."""
    files = ["dvc.yaml", "stages/addition.py", "data/mini/mini-clip.csv", "data/mini/optdigits.npz", ".dvcignore"]
    source = tmp_path / "source"
    source.mkdir()
    for name in (".gitattributes", *files):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    (source / "data" / "mini" / "bytes.bin").write_bytes(b"a\r\nb\nc\r\n")
    for arguments in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "-m", "a")):
        assert run(*GIT, *arguments, cwd=source).returncode == 0
    clone = tmp_path / "clone"
    arguments = ("-c", "core.autocrlf=true", "-c", "core.eol=crlf", "clone", "--quiet", str(source), str(clone))
    assert run("git", *arguments, cwd=tmp_path).returncode == 0
    for name in (*files, "data/mini/bytes.bin"):
        assert (clone / name).read_bytes() == (source / name).read_bytes()
    assert run("git", "status", "--porcelain", cwd=clone).stdout == ""


@pytest.mark.parametrize(
    "locale",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
@pytest.mark.parametrize("command", [("evaluate", "--help"), ("evaluate", "--edit", "größe=1"), ("check",)])
def test_a_terminal_of_another_encoding(locale: dict[str, str], command: tuple[str, ...]) -> None:
    result = run(*TAUFLOW, *command, cwd=ROOT, **locale)
    assert "Traceback" not in result.stderr
    assert result.returncode == ("--edit" in command)


@pytest.mark.parametrize("form", ["package", "namespace", "module"])
def test_another_package_called_pipeline_is_named(form: str, tmp_path: Path) -> None:
    """`PYTHONPATH` comes before what is installed."""
    if form == "module":
        (tmp_path / "pipeline.py").write_text("")
    else:
        (tmp_path / "pipeline").mkdir()
        if form == "package":
            (tmp_path / "pipeline" / "__init__.py").write_text("")
    program = Path(sys.executable).with_name("tauflow")
    result = run(str(program), "check", cwd=ROOT, PYTHONPATH=str(tmp_path))
    if form == "namespace":  # Python prefers a package, wherever it lies
        assert result.returncode == 0
        return
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: another `pipeline`, {tmp_path}")
    assert "PYTHONPATH" in line


# Every module of the project, imported as a library by a process that is no stage.
IMPORTS = """
import gc, importlib, logging, os, pkgutil, sys
collected, handlers, place = gc.isenabled(), list(logging.root.handlers), os.getcwd()
names = [name for package in ("artifacts", "pipeline", "stages", "tauflow")
         for _, name, _ in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
         if not name.startswith("tauflow.template")]
for name in names:
    importlib.import_module(name)
    assert gc.isenabled() == collected, f"{name}: collector"
    assert logging.root.handlers == handlers, f"{name}: logging"
    assert os.getcwd() == place and not os.listdir(), f"{name}: files"
print(len(names))
"""


def test_no_import_has_an_effect(tmp_path: Path) -> None:
    """Garbage stays collected, logging and files are left alone, whoever imports what."""
    result = run(sys.executable, "-c", IMPORTS, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 150
