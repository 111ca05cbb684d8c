"""The preloaded process survives odd clients, leaves nothing behind, and never keeps a stage from running."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tauflow.running.preload import OWNER

ROOT = Path(__file__).parents[1]


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def owner() -> Iterator["subprocess.Popen[bytes]"]:
    """A process in the place of a `dvc` command."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.fixture(scope="module")
def server(owner: "subprocess.Popen[bytes]", tmp_path_factory: pytest.TempPathFactory) -> Iterator[psutil.Process]:
    """A preloaded process, and its socket in the directory where it runs."""
    directory = tmp_path_factory.mktemp("preloaded")
    command = [sys.executable, "-m", "tauflow.running.preload", ".", str(owner.pid)]
    with subprocess.Popen(command, cwd=directory, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        wait_for((directory / "socket").exists)
        yield psutil.Process(process.pid)
        process.kill()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"GET / HTTP/1.1\r\n\r\n",
        b"." + (2**63).to_bytes(8, "big"),
        b"." + (10).to_bytes(8, "big") + b"{}",
        b"." + (2).to_bytes(8, "big") + b"{}",
        b"." + (3).to_bytes(8, "big") + b"\xff\xff\xff",
    ],
)
def test_a_client_that_asks_for_no_stage_leaves_no_fork(content: bytes, server: psutil.Process) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(f"{server.cwd()}/socket")
        connection.sendall(content)
    wait_for(lambda: not server.children(), 5)
    assert server.status() != psutil.STATUS_ZOMBIE


def test_the_process_ends_with_its_owner_despite_silent_clients(
    server: psutil.Process, owner: "subprocess.Popen[bytes]"
) -> None:
    """The last test here: it takes the server with it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(f"{server.cwd()}/socket")  # and is silent
        wait_for(server.children, 5)
        forks = server.children()
        owner.kill()
        owner.wait()
        wait_for(lambda: server.status() == psutil.STATUS_ZOMBIE, 5)
        assert psutil.wait_procs(forks, timeout=15)[1] == []


def stray_file(directory: Path) -> None:
    directory.mkdir(parents=True)
    for name in (".DS_Store", "notes.txt", "9" * 30, "١٢"):
        (directory / name).write_text("stray")


def file_in_its_place(directory: Path) -> None:
    directory.parent.mkdir()
    directory.write_text("stray")


def file_as_socket(directory: Path) -> None:
    (directory / str(os.getpid())).mkdir(parents=True)
    (directory / str(os.getpid()) / "socket").write_text("stray")
    (directory / str(os.getpid()) / "started").touch()


@pytest.mark.parametrize("make", [stray_file, file_in_its_place, file_as_socket])
@pytest.mark.parametrize("number", [str(os.getpid()), "none", "-1", "9" * 30], ids=["own", "none", "negative", "huge"])
def test_obstacles_do_not_keep_a_stage_from_running(make: Callable[[Path], None], number: str, tmp_path: Path) -> None:
    make(tmp_path / ".tauflow" / f"preloaded-{socket.gethostname()}")
    result = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = '-m'; import stages; print('ran')", "-m"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), OWNER: number},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "ran\n", "")
