"""One attempt at one stage: ``python -m tauflow.attempt STAGE``, a process that a Ray worker starts.

It is ``dvc --wait-for-lock repro --single-item STAGE``, with what is needed where processes and machines may die: it
and all it has started end with the worker, which keeps a pipe to it open; it waits for an earlier attempt to end; and
it forgets what an attempt that was killed has left in DVC's list of files in use.
"""

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import psutil
from dvc.cli import main as dvc
from dvc.repo import Repo

from tauflow.locks import only_attempt

# How long processes have to end when they are told to, before they are killed.
GRACE_SECONDS = 5.0
POLL_SECONDS = 0.1
NAME = "tauflow.attempt"


def forget_dead(stage: str) -> None:
    """Remove what killed attempts have left in DVC's list of files in use.

    DVC does so itself for processes of the same machine; elsewhere it may take another process of the same number for
    the dead one, and wait for it forever. To be called while the stage's lock is held.
    """
    path = Path(".dvc", "tmp", "rwlock")
    command = f"{NAME} {stage}"
    if not path.exists() or command not in path.read_text(encoding="utf-8"):
        return
    with Repo(_wait_for_lock=True) as repo, repo.lock:
        used = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(_without(used, command)), encoding="utf-8")


def _without(used: dict[str, Any], command: str) -> dict[str, Any]:
    """The list without the entries of one command: ``write`` has one entry per path, ``read`` several."""
    write = {path: entry for path, entry in used.get("write", {}).items() if entry["cmd"] != command}
    readers = {path: [e for e in entries if e["cmd"] != command] for path, entries in used.get("read", {}).items()}
    return {"write": write, "read": {path: entries for path, entries in readers.items() if entries}}


def _end_with(worker: BinaryIO) -> None:
    """When the worker is gone, end what DVC has started, hence DVC's run of the stage, which frees its locks."""
    worker.read()
    os.kill(os.getpid(), signal.SIGINT)  # DVC ignores it while the stage runs, but may be waiting for its lock
    while True:  # until the main thread ends
        started = psutil.Process().children(recursive=True)
        for process in started:
            _signal(process, signal.SIGTERM)
        for process in psutil.wait_procs(started, GRACE_SECONDS)[1]:
            _signal(process, signal.SIGKILL)
        time.sleep(POLL_SECONDS)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _worker() -> BinaryIO:
    """The pipe to the worker, which is this process's standard input but shall not be the stage's."""
    pipe = os.fdopen(os.dup(0), "rb")
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return pipe


def main(stage: str, *options: str) -> int:
    """Run the stage if DVC finds it stale; returns DVC's exit code."""
    # Ray's processes block or ignore it, which would be inherited by the stage.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    sys.argv = [NAME, stage]  # what DVC notes in its list of files in use
    threading.Thread(target=_end_with, args=(_worker(),), daemon=True).start()
    with only_attempt(stage):
        forget_dead(stage)
        return dvc(["--wait-for-lock", "repro", "--single-item", *options, stage])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
