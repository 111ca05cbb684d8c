"""One process that has imported torch and open_clip, and forks a stage whenever DVC starts one.

Importing them takes 5 s, longer than most stages of the mini suite need for their work. So the second stage that a
`dvc` command starts leaves such a process behind; whichever `python -m stages.NAME` finds it ready hands over its
arguments, environment and standard streams, and ends as the fork ends. A stage that does not find it imports what it
needs itself: either way the same code runs in a process of its own. It ends when the `dvc` command does. Where each
stage has a `dvc` of its own (`tauflow repro --jobs`), the process that starts those takes the command's place.
"""

import gc
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import psutil

# Relative, because the path of a socket must be short. Below it, one directory per running `dvc` command.
DIRECTORY = Path(".tauflow", "preloaded")
# The process in the place of the `dvc` command.
OWNER = "TAUFLOW_PRELOAD_OWNER"
# In a fork: the process that DVC started, whose place the fork takes.
CLIENT = "TAUFLOW_CLIENT"
WATCH_SECONDS = 0.5


def dvc_above(process: psutil.Process) -> psutil.Process | None:
    """The outermost `dvc` command that a process runs under."""
    above = [p for p in process.parents() if any(Path(part).name == "dvc" for part in p.cmdline()[:3])]
    return above[-1] if above else None


def run_in_fork() -> None:
    """Called when a stage starts as ``python -m stages.NAME``: if a preloaded process is ready, run there, and exit."""
    # Elsewhere than on Linux, forking a process that has imported torch is not safe.
    owner = _owner() if sys.platform == "linux" and "-m" in sys.orig_argv else None
    if owner is None:
        return
    directory = _directory(owner)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(directory / "socket"))
        except OSError:
            _prepare(directory, owner)
            return
        _hand_over(connection)


def _owner() -> psutil.Process | None:
    if OWNER not in os.environ:
        return dvc_above(psutil.Process())
    pid = int(os.environ[OWNER])
    return psutil.Process(pid) if psutil.pid_exists(pid) else None


def _directory(owner: psutil.Process) -> Path:
    """Several machines may share .tauflow, and have processes of the same number."""
    parent = DIRECTORY.with_name(f"{DIRECTORY.name}-{socket.gethostname()}") if OWNER in os.environ else DIRECTORY
    return parent / str(owner.pid)


def _prepare(directory: Path, owner: psutil.Process) -> None:
    """The first stage leaves a directory, the second the process; a command that runs one stage starts none."""
    try:
        directory.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        try:
            (directory / "started").touch(exist_ok=False)
        except FileExistsError:
            return
        command = [sys.executable, "-m", "tauflow.preload", str(directory), str(owner.pid)]
        nothing = subprocess.DEVNULL  # whoever reads the command's output must not wait for this process
        subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing)
        return
    for other in directory.parent.iterdir():
        if not psutil.pid_exists(int(other.name)):
            shutil.rmtree(other, ignore_errors=True)


def _hand_over(connection: socket.socket) -> None:
    module, *arguments = sys.orig_argv[sys.orig_argv.index("-m") + 1 :]
    request = {
        "module": module,
        "arguments": arguments,
        "cwd": str(Path.cwd()),
        "environment": dict(os.environ),
        "client": os.getpid(),
    }
    content = json.dumps(request).encode()
    socket.send_fds(connection, [b"."], [0, 1, 2])
    connection.sendall(len(content).to_bytes(8, "big") + content)
    while True:
        try:
            answer = connection.recv(1)
            break
        except KeyboardInterrupt:  # the fork, in the same foreground group, gets it too and ends as it must
            continue
    os._exit(answer[0] if answer else 1)  # no answer: it was killed


def serve(directory: Path, owner: psutil.Process) -> None:
    """Import, then fork for every connection, as long as the `dvc` command, or what is in its place, runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended forks are not waited for
    gc.disable()
    import open_clip  # noqa: F401  # pyright: ignore[reportUnusedImport]

    gc.freeze()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(directory / "socket"))
        listener.listen()
        listener.settimeout(WATCH_SECONDS)
        while owner.is_running() and directory.exists():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                listener.close()
                connection.settimeout(None)
                os._exit(_run(connection))
            connection.close()
    shutil.rmtree(directory, ignore_errors=True)


def _run(connection: socket.socket) -> int:
    """Become the stage that the client was started as; returns its exit code."""
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    request = json.loads(_receive(connection, int.from_bytes(_receive(connection, 8), "big")))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update({**request["environment"], CLIENT: str(request["client"])})
    sys.argv = [request["module"], *request["arguments"]]
    threading.Thread(target=_end_with_client, args=(connection,), daemon=True).start()
    code = _exit_code(request["module"])
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(bytes([code]))
    return code


def _exit_code(module: str) -> int:
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _end_with_client(connection: socket.socket) -> None:
    """Do not outlive the process that DVC started."""
    if connection.recv(1) == b"":
        os.kill(os.getpid(), signal.SIGTERM)


def _receive(connection: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        content += connection.recv(size - len(content))
    return content


if __name__ == "__main__":
    serve(Path(sys.argv[1]), psutil.Process(int(sys.argv[2])))
