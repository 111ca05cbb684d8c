"""Attempts at a stage on a cluster: its lock, which the worker that runs it holds, and its log.

The file system releases the lock when the worker dies, even on another machine.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from artifacts.workspace import home

# Prefix of the line that precedes the output of an attempt; the Ray node and its GPUs follow.
STARTED = "tauflow: started on "
# Prefixes of the lines that DVC prints before and after the output of a stage.
DVC_PREFIXES = ("Running stage '", "> ", "ERROR: failed to reproduce")


def log_file(stage: str) -> Path:
    """Return the file with the output of a stage."""
    return home() / ".tauflow" / "logs" / f"{stage.replace('/', '_')}.log"


def attempts(stage: str) -> list[str]:
    """Return the place of each attempt at a stage: the node, then `GPU` and the GPU numbers if any are leased."""
    path = log_file(stage)
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.removeprefix(STARTED) for line in lines if line.startswith(STARTED)]


def error_line(output: str) -> str | None:
    """Return the line of the output that says why a stage failed.

    That is its last one-line error, else its last line, else the last line of DVC.
    """
    lines = [line for line in output.splitlines() if line.strip()]
    own = [line for line in lines if not line.startswith(DVC_PREFIXES)]
    errors = [line for line in own if line.startswith("error: ")]
    return next(iter([*errors[-1:], *own[-1:], *lines[-1:]]), None)


@contextmanager
def stage_lock(stage: str) -> Iterator[None]:
    """Hold the stage's lock, waiting for other attempts to end; the file system releases it if the process dies."""
    path = _path(stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_attempted(stage: str) -> bool:
    """Return whether a process holds the stage's lock."""
    path = _path(stage)
    if not path.exists():
        return False
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _path(stage: str) -> Path:
    return home() / ".tauflow" / "attempts" / f"{log_file(stage).stem}.lock"
