"""Stages that run in forks of a preloaded process: the same bytes, errors, output, and no fork left behind."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tauflow.preload import SOCKET, preloaded
from tests.pipeline.conftest import Project

pytestmark = pytest.mark.pipeline

FINETUNE = "finetune@mini-clip-textures-standard"


def test_the_main_job_gives_the_bytes_of_dvc_repro(clone: Project) -> None:
    before = clone.lock()[FINETUNE]["outs"]
    output = clone.run("tauflow", "repro", "--force", "--single-item", FINETUNE).stdout
    assert f"{FINETUNE}: 9 steps" in output
    assert clone.lock()[FINETUNE]["outs"] == before


def test_errors_and_exit_codes_come_through(clone: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone.root)
    with preloaded() as addition:
        result = clone.run("python", "-m", "stages.finetune", "mini-clip", "nope", "standard", check=False, **addition)
        assert result.returncode == 1
        (line,) = result.stderr.strip().splitlines()
        assert line.startswith("error: finetune@mini-clip-nope-standard: ")
        usage = clone.run("python", "-m", "stages.finetune", check=False, **addition)
        assert usage.returncode == 2
        assert "Missing argument" in usage.stderr


def test_a_fork_ends_with_the_process_that_dvc_started(clone: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone.root)
    clone.set_parameter("epochs.textures", 10000)
    with preloaded() as addition:
        process = subprocess.Popen(
            [sys.executable, "-m", "stages.finetune", "mini-clip", "textures", "standard"],
            env={**os.environ, "TAUFLOW_TRACKER": "off", SOCKET: addition[SOCKET]},
        )
        deadline = time.monotonic() + 300
        while not list((clone.root / ".tauflow").glob("resume/*.safetensors")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (fork,) = [child for child in psutil.Process().children(recursive=True) if _is_fork(child)]
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert psutil.wait_procs([fork], timeout=30)[1] == []


def _is_fork(process: psutil.Process) -> bool:
    """The preloaded process's own child has its command line."""
    parent = process.parent()
    return parent is not None and "tauflow.preload" in process.cmdline() and "tauflow.preload" in parent.cmdline()
