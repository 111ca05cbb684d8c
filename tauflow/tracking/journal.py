"""The journal of a stage: a file of JSON lines that the tracker logs to MLflow, now or later.

Importing MLflow and opening its store takes seconds, as long as many stages run. So a stage only appends lines here,
never waits for a tracking server, and loses nothing while the server is down.
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

import psutil

from artifacts.workspace import home, journals

# Environment variable with the path of a stage's journal, for the processes that the stage starts.
JOURNAL = "TAUFLOW_JOURNAL"
# Environment variable; ``off``: start no tracker.
TRACKER = "TAUFLOW_TRACKER"
# Time that an idle tracker waits for the next stage, in seconds: DVC pauses between stages.
LINGER_SECONDS = 15.0


@dataclass(frozen=True)
class Journal:
    """An open journal; each line is written immediately, so that the tracker can follow a running stage."""

    path: Path

    @classmethod
    def open(cls, **start: Any) -> "Journal":
        """Begin a journal with its ``start`` event, and start a tracker unless one is running."""
        journal = cls.create(**start)
        start_tracker()
        return journal

    @classmethod
    def create(cls, **start: Any) -> "Journal":
        """Begin a journal with its ``start`` event."""
        journals().mkdir(parents=True, exist_ok=True)
        journal = cls(journals() / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}.jsonl")
        process = psutil.Process()
        identity = {"pid": process.pid, "process_started": process.create_time(), "host": platform.node()}
        journal.append("start", **identity, **start)
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
        """Append a file that the run keeps."""
        self.append("artifact", path=str(path.resolve()))

    def paradigm(self, headline: Mapping[str, Any]) -> None:
        """Append the headline of a paradigm, which becomes a run of its own."""
        self.append("paradigm", root=str(Path.cwd()), **headline)


def error_file() -> Path:
    """Return the file with the reason why the tracker could not log; removed once everything is logged."""
    return home() / ".tauflow" / "tracking-error"


def open_runs_file() -> Path:
    """Return the file that lists the open runs of a tracker, which the next tracker ends if this one is killed."""
    return home() / ".tauflow" / "open-runs.json"


def has_pending_work() -> bool:
    """Return whether a tracker has work: journals to log, or runs that a killed tracker left open."""
    return any(journals().glob("*.jsonl")) or (open_runs_file().exists() and not _tracker_runs())


def tracking_error() -> str | None:
    """Return the reason why the tracker could not log; ``None`` if it could."""
    try:
        return " ".join(error_file().read_text(encoding="utf-8", errors="replace").split()) or None
    except OSError:
        return None


def start_tracker() -> None:
    """Start the background tracker unless one is running or ``TAUFLOW_TRACKER=off``."""
    if os.environ.get(TRACKER) == "off":
        return
    if not _tracker_runs():
        _tracker(subprocess.DEVNULL, LINGER_SECONDS)


def _tracker_runs() -> bool:
    with (journals().parent / "tracker.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def tracker_running() -> Iterator[None]:
    """Keep one tracker for the stages of all machines running in the block, unless ``TAUFLOW_TRACKER=off``."""
    if os.environ.get(TRACKER) == "off":
        yield
        return
    journals().mkdir(parents=True, exist_ok=True)
    process = _tracker(subprocess.PIPE, 0)
    assert process.stdin
    with process.stdin:
        yield


def _tracker(stdin: int, linger: float) -> "subprocess.Popen[bytes]":
    """Start a tracker that ends when its standard input is closed and it has been idle for ``linger`` seconds."""
    with (journals().parent / "tracker.log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tauflow.tracking.tracker", str(linger)],
            cwd=home(),
            stdin=stdin,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
