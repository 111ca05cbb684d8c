"""The lock of a stage on a cluster: who runs it holds it, on whichever machine, and the file system frees it."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tauflow.logs import log_file
from tauflow.workspace import home


@contextmanager
def only_attempt(stage: str) -> Iterator[None]:
    """Hold the stage's lock, waiting for another attempt to end; the file system frees it when a process dies."""
    path = _path(stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_attempted(stage: str) -> bool:
    """Whether somebody holds the stage's lock."""
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
