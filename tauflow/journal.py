"""The journal of a stage: one file of JSON lines that the tracker logs to MLflow, now or later.

Importing MLflow and opening its store takes seconds, as long as many stages run; a stage therefore only appends
lines here. It never waits for a tracking server, and nothing is lost when there is none.
"""

import fcntl
import json
import os
import platform
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tauflow.workspace import home, journals

# Where a stage's own journal is, for the processes that it starts.
JOURNAL = "TAUFLOW_JOURNAL"
# ``off``: no tracker is started.
TRACKER = "TAUFLOW_TRACKER"
# DVC takes a moment between two stages.
LINGER_SECONDS = 15.0


@dataclass(frozen=True)
class Journal:
    """An open journal; lines are appended at once, so that the tracker can follow a running stage."""

    path: Path

    @classmethod
    def open(cls, **start: Any) -> "Journal":
        """Begin a journal with its ``start`` event, and see to it that a tracker runs."""
        journal = cls.create(**start)
        start_tracker()
        return journal

    @classmethod
    def create(cls, **start: Any) -> "Journal":
        """Begin a journal with its ``start`` event."""
        journals().mkdir(parents=True, exist_ok=True)
        journal = cls(journals() / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}.jsonl")
        journal.append("start", pid=os.getpid(), host=platform.node(), **start)
        return journal

    def append(self, event: str, **content: Any) -> None:
        """Append one event."""
        line = json.dumps({"event": event, "time": round(time.time() * 1000), **content})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Append metrics of one step."""
        self.append("metrics", step=step, values=dict(values))

    def artifact(self, path: Path) -> None:
        """Append a file to be kept with the run."""
        self.append("artifact", path=str(path.resolve()))

    def paradigm(self, model: str, paradigm: str, values: Mapping[str, float]) -> None:
        """Append the headline numbers of a paradigm, which become a run of its own."""
        self.append("paradigm", root=str(Path.cwd()), model=model, paradigm=paradigm, values=dict(values))


def error_file() -> Path:
    """Where the tracker says why it could not log; gone when all is logged."""
    return home() / ".tauflow" / "tracking-error"


def start_tracker() -> None:
    """Start the background tracker unless one is running or ``TAUFLOW_TRACKER=off``."""
    if os.environ.get(TRACKER) == "off":
        return
    with (journals().parent / "tracker.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
    _tracker(subprocess.DEVNULL, LINGER_SECONDS)


@contextmanager
def tracker_running() -> Iterator[None]:
    """Have a tracker meanwhile, whichever machines stages run on; none with ``TAUFLOW_TRACKER=off``."""
    if os.environ.get(TRACKER) == "off":
        yield
        return
    journals().mkdir(parents=True, exist_ok=True)
    process = _tracker(subprocess.PIPE, 0)
    assert process.stdin
    with process.stdin:
        yield


def _tracker(stdin: int, linger: float) -> "subprocess.Popen[bytes]":
    """A tracker: goes on until its standard input has ended and nothing has come for ``linger`` seconds."""
    with (journals().parent / "tracker.log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tauflow.tracker", str(linger)],
            cwd=home(),
            stdin=stdin,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
