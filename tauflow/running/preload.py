"""A fork server: a process that has imported torch and open_clip, and forks when DVC starts a stage.

The imports take 5 s, longer than the work of most stages of the mini suite. So the second stage of a `dvc` command
starts such a process. Each later `python -m stages.NAME` hands over its arguments, environment and standard streams if
the process is ready, and ends with the fork's exit code; otherwise it imports torch itself. Either way the same code
runs in a process of its own. The preloaded process ends with the `dvc` command or, if each stage has its own
(`tauflow repro --jobs`), with the process that starts those.
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
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import psutil

# Parent of one directory per running `dvc` command. Relative, because the path of a socket must be short.
DIRECTORY = Path(".tauflow", "preloaded")
# ID of the process that acts as the `dvc` command.
OWNER = "TAUFLOW_PRELOAD_OWNER"
# In a fork: ID of the process that DVC started, which the fork replaces.
CLIENT = "TAUFLOW_CLIENT"
# The `dvc` command, and modules that run it in their process.
_DVC = ("dvc", "tauflow.dvc.repro", "tauflow.jobs.attempt")
WATCH_SECONDS = 0.5
# Time limit for a client's request in seconds, and the request's maximum size in bytes.
REQUEST_SECONDS = 10.0
REQUEST_BYTES = 100_000_000
_REQUEST = {"module", "arguments", "cwd", "environment", "client"}


def dvc_above(process: psutil.Process) -> psutil.Process | None:
    """Return the outermost `dvc` command that a process runs under."""
    above = [p for p in process.parents() if any(Path(part).name in _DVC for part in p.cmdline()[:3])]
    return above[-1] if above else None


def run_in_fork() -> None:
    """Run a stage that starts as ``python -m stages.NAME`` in a fork of the preloaded process, if that is ready.

    In that case this process ends with the fork; otherwise the function returns. Preloading only saves time, so any
    obstacle (a file in place of a directory, missing permissions) makes the stage run without it.
    """
    # Forking a process that has imported torch is only safe on Linux.
    owner = _owner() if sys.platform == "linux" and "-m" in sys.orig_argv else None
    if owner is None:
        return
    directory = _directory(owner)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(directory / "socket"))
        except OSError:
            with suppress(OSError, OverflowError):
                _prepare(directory, owner)
            return
        _hand_over(connection)


def _owner() -> psutil.Process | None:
    try:
        return psutil.Process(int(os.environ[OWNER])) if OWNER in os.environ else dvc_above(psutil.Process())
    except (psutil.Error, ValueError):
        return None


def _directory(owner: psutil.Process) -> Path:
    """Return an owner's directory, named by host as well: machines that share .tauflow may reuse process IDs."""
    parent = DIRECTORY.with_name(f"{DIRECTORY.name}-{socket.gethostname()}") if OWNER in os.environ else DIRECTORY
    return parent / str(owner.pid)


def _prepare(directory: Path, owner: psutil.Process) -> None:
    """As the first stage, create the directory; as the second, start the process. A single stage needs none."""
    try:
        directory.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        try:
            (directory / "started").touch(exist_ok=False)
        except FileExistsError:
            return
        command = [sys.executable, "-m", "tauflow.running.preload", str(directory), str(owner.pid)]
        null = subprocess.DEVNULL  # readers of the command's output must not wait for this process
        subprocess.Popen(command, stdin=null, stdout=null, stderr=null)
        return
    for other in directory.parent.iterdir():
        if other.name.isdecimal() and not psutil.pid_exists(int(other.name)):
            shutil.rmtree(other, ignore_errors=True)


def _hand_over(connection: socket.socket) -> None:
    """Let a fork run this process's stage, and exit with the fork's exit code."""
    module, *arguments = sys.orig_argv[sys.orig_argv.index("-m") + 1 :]
    request = {
        "module": module,
        "arguments": arguments,
        "cwd": str(Path.cwd()),
        "environment": dict(os.environ),
        "client": os.getpid(),
    }
    content = json.dumps(request).encode()
    try:
        socket.send_fds(connection, [b"."], [0, 1, 2])
        connection.sendall(len(content).to_bytes(8, "big") + content)
    except OSError:  # the preloaded process just ended; run the stage here
        return
    while True:
        try:
            answer = connection.recv(1)
            break
        except KeyboardInterrupt:  # the fork is in the same foreground group, so it ends too
            continue
        except OSError:
            answer = b""
            break
    os._exit(answer[0] if answer else 1)  # no answer: the fork was killed


def serve(directory: Path, owner: psutil.Process) -> None:
    """Import torch, then fork for every connection until the owner ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
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
                os._exit(_run(connection))
            connection.close()
    shutil.rmtree(directory, ignore_errors=True)


def _run(connection: socket.socket) -> int:
    """Run the client's stage in this fork; return its exit code.

    Clients without a valid request, which have closed or are other programs, are ignored.
    """
    connection.settimeout(REQUEST_SECONDS)
    try:
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
        size = int.from_bytes(_receive(connection, 8), "big")
        request = json.loads(_receive(connection, size)) if size <= REQUEST_BYTES else None
    except (OSError, ValueError):
        return 1
    if len(streams) != 3 or not isinstance(request, dict) or not request.keys() >= _REQUEST:
        return 1
    connection.settimeout(None)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # Open them again: properties of the old streams, such as seekability, need not hold for these.
    sys.stdout, sys.stderr = (_writer(number) for number in (1, 2))
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
    with suppress(OSError):  # the client has ended
        connection.sendall(bytes([code]))
    return code


def _writer(descriptor: int) -> TextIO:
    buffering = 1 if os.isatty(descriptor) else -1
    return os.fdopen(descriptor, "w", buffering, encoding=sys.stdout.encoding, closefd=False)


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
    """End this fork when the process that DVC started ends."""
    with suppress(OSError):
        connection.recv(1)
    os.kill(os.getpid(), signal.SIGTERM)


def _receive(connection: socket.socket, size: int) -> bytes:
    """Receive ``size`` bytes.

    Raises:
        OSError: the client has closed, or takes too long.
    """
    content = bytearray()
    while len(content) < size:
        part = connection.recv(size - len(content))
        if not part:
            raise ConnectionResetError
        content += part
    return bytes(content)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), psutil.Process(int(sys.argv[2])))
