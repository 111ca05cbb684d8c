"""One attempt at one stage: ``python -m tauflow.jobs.attempt STAGE``, a process that a Ray worker starts.

Runs ``dvc --wait-for-lock repro --single-item STAGE``, and survives the death of processes and machines: it ends with
its children when the worker, which holds a pipe to it open, ends; it waits for an earlier attempt to end; and it
removes the entries of a killed attempt from DVC's list of files in use.
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
from dvc.repo import Repo

from tauflow.dvc.command import run_dvc
from tauflow.tracking.attempts import stage_lock

# Time between SIGTERM and SIGKILL.
GRACE_SECONDS = 5.0
POLL_SECONDS = 0.1
NAME = "tauflow.jobs.attempt"


def remove_stale_entries(stage: str) -> None:
    """Remove entries of killed attempts from DVC's list of files in use.

    DVC does so itself for processes of the same machine. On another machine it may mistake a running process with the
    same ID for the dead one and wait for it forever. Call this while holding the stage's lock.
    """
    path = Path(".dvc", "tmp", "rwlock")
    command = f"{NAME} {stage}"
    if not path.exists() or command not in path.read_text(encoding="utf-8"):
        return
    with Repo(_wait_for_lock=True) as repo, repo.lock:
        used = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(_without(used, command)), encoding="utf-8")


def _without(used: dict[str, Any], command: str) -> dict[str, Any]:
    """Return the list without a command's entries; a path has one entry in ``write`` and several in ``read``."""
    write = {path: entry for path, entry in used.get("write", {}).items() if entry["cmd"] != command}
    readers = {path: [e for e in entries if e["cmd"] != command] for path, entries in used.get("read", {}).items()}
    return {"write": write, "read": {path: entries for path, entries in readers.items() if entries}}


def _end_with(worker: BinaryIO) -> None:
    """When the worker dies, terminate DVC's child processes; DVC then ends the stage and releases its locks."""
    worker.read()
    os.kill(os.getpid(), signal.SIGINT)  # DVC ignores this while the stage runs, but not while waiting for its lock
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
    """Return the pipe to the worker: standard input, which the stage must not inherit."""
    pipe = os.fdopen(os.dup(0), "rb")
    with Path(os.devnull).open("rb") as null:
        os.dup2(null.fileno(), 0)
    return pipe


def main(stage: str, *options: str) -> int:
    """Run the stage if DVC finds it stale; return DVC's exit code."""
    # Ray's processes block or ignore SIGINT, and the stage would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    sys.argv = [NAME, stage]  # DVC records this in its list of files in use
    threading.Thread(target=_end_with, args=(_worker(),), daemon=True).start()
    with stage_lock(stage):
        remove_stale_entries(stage)
        return run_dvc(["--wait-for-lock", "repro", "--single-item", *options, stage])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
