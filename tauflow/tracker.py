"""The tracker: logs the journals of all stages to MLflow, from one process.

``python -m tauflow.tracker SECONDS`` follows running stages, and ends when none has run for so long and its standard
input has ended;
``tauflow track`` does the same in the foreground. Where each journal was logged up to is kept beside it, so that an
interrupted tracker continues.
"""

import fcntl
import json
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tauflow.journal import error_file
from tauflow.lockfile import Entry, read_lock
from tauflow.locks import is_attempted
from tauflow.workspace import journals

POLL_SECONDS = 1.0
# How long after a stage ended its entry in dvc.lock is waited for; a stage run by hand has none.
LOCK_ENTRY_SECONDS = 10.0
# How old a journal without a whole line is before its stage is taken for dead.
EMPTY_SECONDS = 60.0
# How much of a journal is logged at a time.
BYTES_AT_ONCE = 1_000_000

# Journals that MLflow does not take, and why.
Refused = dict[Path, Exception]


@dataclass
class Progress:
    """How far a journal has been logged: the run it became, the bytes that were read, and the last event in them."""

    path: Path
    run_id: str | None = None
    offset: int = 0
    last: dict[str, Any] | None = None

    @classmethod
    def of(cls, journal: Path) -> "Progress":
        path = journal.with_suffix(".progress")
        if path.exists():
            return cls(path, **json.loads(path.read_text(encoding="utf-8")))
        return cls(path)

    def save(self) -> None:
        temporary = self.path.with_suffix(".tmp")
        content = {"run_id": self.run_id, "offset": self.offset, "last": self.last}
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(self.path)


@contextmanager
def only_one() -> Iterator[None]:
    """Hold the tracker's lock, waiting for another tracker to end."""
    journals().mkdir(parents=True, exist_ok=True)
    with (journals().parent / "tracker.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def track(linger: float, wanted: Callable[[], bool] = lambda: False) -> int:
    """Log all journals, following running stages, until nothing has come for ``linger`` seconds.

    Args:
        linger: seconds.
        wanted: whether to go on whatever comes.

    Returns:
        The number of journals that remain because MLflow refused them; ``error_file()`` then says why.
    """
    with only_one():
        from tauflow.mlflow_store import Store  # seconds; only the process that logs pays for it

        try:
            store = Store.connect()
            refused: Refused = {}
            try:
                _follow(store, linger, refused, wanted)
            finally:
                store.close()
            for error in refused.values():
                raise error
            error_file().unlink(missing_ok=True)
        except Exception as error:  # whatever a server or database raises, the journals are kept
            error_file().write_text(f"{type(error).__name__}: {' '.join(str(error).split())[:500]}\n")
    return len(list(journals().glob("*.jsonl")))


def _follow(store: Any, linger: float, refused: Refused, wanted: Callable[[], bool]) -> None:
    """Log what comes, until nothing has come for ``linger`` seconds, no stage runs, and it is not wanted any more."""
    idle_since = time.monotonic()
    while wanted() or time.monotonic() - idle_since < linger or _running(refused):
        if _log_all(store, refused):
            idle_since = time.monotonic()
        else:
            time.sleep(POLL_SECONDS)


def _log_all(store: Any, refused: Refused) -> bool:
    """Log what is new in every journal; whether there was anything.

    A journal that MLflow does not take is left for another time, and holds up no other. Each is logged to its end
    before the next, which began later: a paradigm's run looks for those of its fine-tunings.
    """
    progressed = False
    for path in sorted(set(journals().glob("*.jsonl")) - refused.keys()):
        try:
            while path.exists() and _log(store, path):
                progressed = True
        except Exception as error:
            store.check()  # if it is down, it refuses all
            refused[path] = error
    return progressed


def _log(store: Any, path: Path) -> bool:
    progress = Progress.of(path)
    with path.open("rb") as file:
        file.seek(progress.offset)
        lines = [line for line in file.readlines(BYTES_AT_ONCE) if line.endswith(b"\n")]
    events = [json.loads(line) for line in lines]
    if progress.run_id is None:
        if not events:
            return _forget_if_empty(path)
        progress.run_id = store.start(events[0], path.stem)
        progress.save()
    if events:
        store.log(progress.run_id, events)
        progress.offset += sum(len(line) for line in lines)
        progress.last = events[-1]
        progress.save()
    ended = _end_event(path, progress)
    if ended is not None:
        return _finish(store, path, progress, ended) or bool(events)
    return bool(events)


def _forget_if_empty(path: Path) -> bool:
    """Drop the journal of a stage that was killed before its first line was whole."""
    if time.time() - path.stat().st_mtime < EMPTY_SECONDS:
        return False
    path.unlink()
    return True


def _finish(store: Any, path: Path, progress: Progress, ended: dict[str, Any]) -> bool:
    """End a run once DVC has written its lock entry, and forget its journal."""
    start = _first_event(path)
    waited = time.time() * 1000 - ended["time"] > LOCK_ENTRY_SECONDS * 1000
    entry = lock_entry(Path(start["root"]), start["name"], ended["time"])
    if ended["status"] == "FINISHED" and entry is None and not waited:
        return False
    store.finish(progress.run_id, ended, entry)
    path.unlink()
    progress.path.unlink(missing_ok=True)
    return True


def _first_event(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return json.loads(file.readline())


def _end_event(path: Path, progress: Progress) -> dict[str, Any] | None:
    """The ``end`` event, or one made up for a stage that was killed.

    ``None`` while the stage runs, or while there are whole lines that are not logged.
    """
    # Asked before the file is read, since a stage's last act is to write its end.
    alive = _alive(_first_event(path))
    with path.open("rb") as file:
        file.seek(progress.offset)
        remaining = file.read()
    last = progress.last
    if last is None or b"\n" in remaining:  # a killed stage may leave half a line behind
        return None
    if last["event"] == "end":
        return last
    return None if alive else {"event": "end", "time": last["time"], "status": "KILLED"}


def _running(refused: Refused) -> bool:
    """Whether a stage is running, or one has just ended whose lock entry is still awaited."""
    return bool(set(journals().glob("*.jsonl")) - refused.keys())


def _alive(start: dict[str, Any]) -> bool:
    """Whether a stage runs; of another machine only its lock can tell."""
    if start.get("host", platform.node()) != platform.node():
        return is_attempted(start["name"])
    try:
        return psutil.Process(start["pid"]).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def lock_entry(root: Path, stage: str, after_ms: float) -> Entry | None:
    """What ``dvc.lock`` says of a stage, if it was written after ``after_ms`` (milliseconds since the epoch)."""
    path = root / "dvc.lock"
    if not path.exists() or path.stat().st_mtime * 1000 < after_ms:
        return None
    return read_lock(root).get(stage)


def _read_until_end() -> threading.Thread:
    """A thread that lives as long as whoever has started this process keeps its standard input open."""
    reader = threading.Thread(target=sys.stdin.buffer.read, daemon=True)
    reader.start()
    return reader


if __name__ == "__main__":
    track(float(sys.argv[1]), _read_until_end().is_alive)
