"""One process that has imported torch and open_clip, and forks a stage whenever DVC starts one.

Importing them takes 5 s, longer than most stages of the mini suite need for their work. ``tauflow repro`` therefore
keeps such a process beside ``dvc repro``: ``python -m stages.NAME`` finds its socket in the environment, hands over
its arguments, environment and standard streams, and ends as the fork ends. Without the socket, as under plain
``dvc repro``, a stage imports what it needs itself. Either way the same code runs in a process of its own.
"""

import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOCKET = "TAUFLOW_PRELOADED"
# In a fork: the process that DVC started, whose place the fork takes.
CLIENT = "TAUFLOW_CLIENT"
START_SECONDS = 120.0


@contextmanager
def preloaded() -> Iterator[dict[str, str]]:
    """Keep the process while the block runs; yields what stages must find in their environment."""
    with tempfile.TemporaryDirectory() as directory:  # readable by this user alone
        path = Path(directory) / "socket"
        server = subprocess.Popen([sys.executable, "-m", "tauflow.preload", str(path)])
        try:
            yield {SOCKET: str(path)}
        finally:
            server.terminate()
            server.wait()


def run_in_fork() -> None:
    """Called when a stage starts as ``python -m stages.NAME``: if there is a preloaded process, run there, and exit."""
    path = os.environ.get(SOCKET)
    if not path or "-m" not in sys.orig_argv:
        return
    module, *arguments = sys.orig_argv[sys.orig_argv.index("-m") + 1 :]
    request = {"module": module, "arguments": arguments, "cwd": str(Path.cwd()), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            _connect(connection, path)
        except OSError:
            return
        socket.send_fds(connection, [b"."], [0, 1, 2])
        content = json.dumps({**request, "client": os.getpid()}).encode()
        connection.sendall(len(content).to_bytes(8, "big") + content)
        while True:
            try:
                answer = connection.recv(1)
                break
            except KeyboardInterrupt:  # the fork, in the same foreground group, gets it too and ends as it must
                continue
    os._exit(answer[0] if answer else 1)  # no answer: it was killed


def _connect(connection: socket.socket, path: str) -> None:
    """Wait for the process to have imported what it must."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            connection.connect(path)
            return
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() > deadline or not Path(path).parent.exists():
                raise
            time.sleep(0.05)


def serve(path: str) -> None:
    """Import, then fork for every connection, until terminated."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended forks are not waited for
    gc.disable()
    import open_clip  # noqa: F401  # pyright: ignore[reportUnusedImport]

    gc.freeze()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                os._exit(_run(connection))
            connection.close()


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
    del os.environ[SOCKET]
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
    serve(sys.argv[1])
