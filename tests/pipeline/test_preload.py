"""Stages that run in forks of a preloaded process: the same bytes, errors, output, and no process left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tauflow.running.preload import DIRECTORY
from tests.pipeline.conftest import Project

pytestmark = pytest.mark.pipeline

# The work of a `dvc` command: the third stage finds what the second has started.
DVC = """
import subprocess, sys, time
from pathlib import Path

for _ in range(2):
    subprocess.run([sys.executable, "-m", "stages.finetune"], stderr=subprocess.DEVNULL)
deadline = time.monotonic() + 120
while not list(Path(sys.argv[1]).glob("*/socket")):
    assert time.monotonic() < deadline
    time.sleep(0.05)
sys.exit(subprocess.run([sys.executable, "-m", *sys.argv[2:]]).returncode)
"""
FINETUNE = ["stages.finetune", "finetune@mini-clip-textures-standard"]


@pytest.fixture
def clone(clone: Project) -> Project:
    """A throw-away copy in which nothing has preloaded anything."""
    return Project(clone.root)


@pytest.fixture
def dvc(tmp_path: Path) -> list[str]:
    """The command to put before a stage's."""
    (tmp_path / "dvc").write_text(DVC)
    return [sys.executable, str(tmp_path / "dvc"), str(DIRECTORY)]


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_fork_gives_the_same_bytes_and_ends(clone: Project, dvc: list[str]) -> None:
    checkpoint = clone.root / "data" / "checkpoints" / "mini-clip" / "standard" / "textures.safetensors"
    before = checkpoint.read_bytes()
    checkpoint.unlink()
    assert "finetune@mini-clip-textures-standard: 9 steps" in clone.run(*dvc, *FINETUNE).stdout
    assert checkpoint.read_bytes() == before
    wait_for(lambda: not list((clone.root / DIRECTORY).iterdir()))  # the preloaded process is gone


def test_errors_and_exit_codes_come_through(clone: Project, dvc: list[str]) -> None:
    result = clone.run(*dvc, "stages.finetune", "finetune@mini-clip-nope-standard", check=False)
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: finetune@mini-clip-nope-standard: ")
    unnamed = clone.run(*dvc, "stages.finetune", check=False)
    assert unnamed.returncode == 1
    assert unnamed.stderr.splitlines() == ["error: name the stage instance to run; `dvc stage list` shows them"]


def test_a_fork_ends_with_the_process_that_dvc_started(clone: Project, dvc: list[str]) -> None:
    clone.set_parameter("epochs.textures", 10000)
    parent = subprocess.Popen([*dvc, *FINETUNE], cwd=clone.root, env={**os.environ, "TAUFLOW_TRACKER": "off"})
    wait_for(lambda: list((clone.root / ".tauflow").glob("resume/*.safetensors")), 300)
    (fork,) = [process for process in psutil.process_iter() if _is_fork(process, clone.root)]
    (client,) = psutil.Process(parent.pid).children()
    client.send_signal(signal.SIGKILL)
    assert parent.wait() != 0
    assert psutil.wait_procs([fork], timeout=30)[1] == []


def test_one_stage_alone_preloads_nothing(clone: Project) -> None:
    """It would cost as much as it saves. The leftovers of an earlier command are removed."""
    (clone.root / DIRECTORY / "99999999").mkdir(parents=True)
    clone.repro("--force", "--single-item", "finetune@mini-clip-textures-standard")
    (left,) = (clone.root / DIRECTORY).iterdir()
    assert left.name != "99999999"
    assert list(left.iterdir()) == []


def _is_fork(process: psutil.Process, root: Path) -> bool:
    """The preloaded process's own child has its command line."""
    try:
        parent = process.parent()
        family = [process, parent] if parent else []
        return bool(family) and all("tauflow.running.preload" in p.cmdline() and p.cwd() == str(root) for p in family)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
