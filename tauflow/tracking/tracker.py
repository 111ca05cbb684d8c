"""The tracker: logs the journals of all stages to MLflow, from one process.

``python -m tauflow.tracking.tracker SECONDS`` follows running stages; it ends when its standard input is closed and
no stage has run for that time. ``tauflow track`` does the same in the foreground. A bookmark beside each journal holds
the logged position, so that the next tracker continues where one was interrupted.
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

from artifacts.workspace import journals
from pipeline.errors import UserError, one_line
from tauflow.dvc.lockfile import Entry, read_lock
from tauflow.tracking.attempts import is_attempted
from tauflow.tracking.journal import error_file
from tauflow.tracking.times import process_cost, record

POLL_SECONDS = 1.0
# Seconds to wait for the dvc.lock entry of an ended stage; a stage run by hand has none.
LOCK_ENTRY_SECONDS = 10.0
# Age at which a journal without a complete line belongs to a dead stage.
EMPTY_SECONDS = 60.0
# Seconds to wait for a stage before printing a note.
SILENT_SECONDS = 3.0
# Tolerance for the start time of a process, in seconds: the clock may have been adjusted.
CLOCK_SECONDS = 10.0
# Bytes of a journal that are logged at once.
BYTES_AT_ONCE = 1_000_000

# Journals that MLflow refused, with the reason.
Refused = dict[Path, Exception]


@dataclass
class Bookmark:
    """The logged position of a journal: its run, the bytes read, and the last event in them."""

    path: Path
    run_id: str | None = None
    offset: int = 0
    last: dict[str, Any] | None = None

    @classmethod
    def read(cls, journal: Path) -> "Bookmark":
        """Read a journal's bookmark; if damaged, start from the beginning, since MLflow drops duplicate metrics."""
        path = journal.with_suffix(".progress")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls(path)
        except (OSError, ValueError, RecursionError):
            content = None
        match content:
            case {"run_id": str(run_id), "offset": int(offset), "last": None | {"event": str(), "time": int()} as last}:
                if offset >= 0:
                    return cls(path, run_id, offset, last)
        print_note(f"{path}: damaged; its journal is logged again from its beginning")
        path.unlink(missing_ok=True)
        return cls(path)

    def save(self) -> None:
        """Write the bookmark beside its journal."""
        temporary = self.path.with_suffix(".tmp")
        content = {"run_id": self.run_id, "offset": self.offset, "last": self.last}
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(self.path)


@contextmanager
def tracker_lock() -> Iterator[None]:
    """Hold the tracker's lock, waiting for another tracker to end."""
    journals().mkdir(parents=True, exist_ok=True)
    with (journals().parent / "tracker.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print_note("waiting for the tracker in the background to end (.tauflow/tracker.log)")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def print_note(text: str) -> None:
    """Print a note on stderr, which is the tracker's log unless it runs in the foreground."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def track(linger: float, wanted: Callable[[], bool] = lambda: False) -> int:
    """Log all journals, following running stages, until idle for ``linger`` seconds.

    Args:
        linger: seconds without new lines or running stages.
        wanted: returns whether to continue even if idle.

    Returns:
        The number of journals that remain because MLflow refused them; ``error_file()`` then says why.
    """
    with tracker_lock():
        from tauflow.tracking.store import Store  # takes seconds, so only the process that logs imports it

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
        except Exception as error:  # servers and databases raise anything; the journals are kept
            reason = one_line(error)[:500]
            name = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            error_file().write_text(f"{name}{reason}\n", encoding="utf-8")
    return len(list(journals().glob("*.jsonl")))


def _follow(store: Any, linger: float, refused: Refused, wanted: Callable[[], bool]) -> None:
    """Log new lines until idle for ``linger`` seconds, with no stage running, and no longer ``wanted``."""
    idle_since = time.monotonic()
    announced: set[Path] = set()
    while wanted() or time.monotonic() - idle_since < linger or _running(refused):
        if _log_all(store, refused):
            idle_since = time.monotonic()
            continue
        if time.monotonic() - idle_since > SILENT_SECONDS:
            _note_waiting(_running(refused) - announced)
            announced |= _running(refused)
        time.sleep(POLL_SECONDS)


def _note_waiting(running: set[Path]) -> None:
    """Print which stage the tracker waits for."""
    for path in sorted(running):
        start = _first_event(path)
        if start:
            print_note(
                f"waiting for {start['name']} to end (process {start['pid']} on {start.get('host', 'this machine')})"
            )


def _log_all(store: Any, refused: Refused) -> bool:
    """Log the new lines of every journal; return whether there were any.

    A journal that MLflow refuses is kept for later and does not block the others. Journals are logged in the order in
    which they began, each to its end: a paradigm's run looks up the runs of its fine-tunings.
    """
    progressed = False
    for path in sorted(set(journals().glob("*.jsonl")) - refused.keys()):
        try:
            while path.exists() and _log(store, path):
                progressed = True
        except Exception as error:
            store.check()  # if the store is down, stop: it would refuse all
            refused[path] = error
    return progressed


def _log(store: Any, path: Path) -> bool:
    if not path.is_file():
        return _set_aside(path)
    bookmark = Bookmark.read(path)
    with path.open("rb") as file:
        file.seek(bookmark.offset)
        lines = [line for line in file.readlines(BYTES_AT_ONCE) if line.endswith(b"\n")]
    start = _first_event(path)
    if start is None:
        return _set_aside(path) if lines else _delete_if_empty(path)
    if bookmark.run_id is None:
        bookmark.run_id = store.start(start, path.stem)
        bookmark.save()
    if lines:
        events = [event for line in lines if (event := _event(line))]
        if len(events) < len(lines):
            print_note(f"{path}: {len(lines) - len(events)} lines are damaged and left out")
        store.log(bookmark.run_id, events)
        bookmark.offset += sum(len(line) for line in lines)
        bookmark.last = events[-1] if events else bookmark.last or start
        bookmark.save()
    ended = _end_event(path, bookmark, start)
    if ended is not None:
        return _finish(store, path, bookmark, start, ended) or bool(lines)
    return bool(lines)


def _event(line: bytes) -> dict[str, Any] | None:
    """Return the event in a line of a journal; ``None`` if the line is damaged."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    match event:
        case {"event": "metrics", "time": int(), "step": int(), "values": dict(values)}:
            return event if all(isinstance(value, int | float) for value in values.values()) else None
        case {"event": "paradigm", "time": int(), "root": str(), "model": str(), "paradigm": str(), "values": dict()}:
            return event
        case {"event": "artifact", "time": int(), "path": str()}:
            return event
        case {"event": "end", "time": int(), "status": "FINISHED" | "FAILED" | "KILLED"}:
            return event
        case {"event": "start", "time": int(), "pid": int(), "name": str(), "root": str(), "suite": str()}:
            kinds = {"params": dict, "tags": dict, "invocation": str, "invocation_name": str, "invocation_tags": dict}
            return event if all(isinstance(event.get(key), kind) for key, kind in kinds.items()) else None
    return None


def _set_aside(path: Path) -> bool:
    """Rename a journal that does not begin with a start event, so that it is reported only once."""
    aside = path.with_suffix(".damaged")
    path.replace(aside)
    path.with_suffix(".progress").unlink(missing_ok=True)
    print_note(f"{path}: damaged, not logged; kept as {aside.name}")
    return True


def _delete_if_empty(path: Path) -> bool:
    """Delete the journal of a stage that was killed before it completed the first line."""
    if time.time() - path.stat().st_mtime < EMPTY_SECONDS:
        return False
    path.unlink()
    return True


def _finish(store: Any, path: Path, bookmark: Bookmark, start: dict[str, Any], ended: dict[str, Any]) -> bool:
    """End a run once DVC has written its lock entry, and delete its journal."""
    waited = time.time() * 1000 - ended["time"] > LOCK_ENTRY_SECONDS * 1000
    entry = lock_entry(Path(start["root"]), start["name"], ended["time"])
    if ended["status"] == "FINISHED" and entry is None and not waited:
        return False
    store.finish(bookmark.run_id, ended, entry)
    record(process_cost(psutil.Process()))
    path.unlink()
    bookmark.path.unlink(missing_ok=True)
    return True


def _first_event(path: Path) -> dict[str, Any] | None:
    """Return a journal's ``start`` event, ``None`` if its first line is damaged or incomplete."""
    try:
        with path.open("rb") as file:
            event = _event(file.readline())
    except OSError:
        return None
    return event if event and event["event"] == "start" else None


def _end_event(path: Path, bookmark: Bookmark, start: dict[str, Any]) -> dict[str, Any] | None:
    """Return the ``end`` event, or a substitute for a stage that was killed.

    ``None`` while the stage runs, or while complete lines are not logged yet.
    """
    # Checked before the file is read, because a stage writes its end event last.
    alive = _alive(start)
    with path.open("rb") as file:
        file.seek(bookmark.offset)
        remaining = file.read()
    last = bookmark.last
    if last is None or b"\n" in remaining:  # a killed stage may leave an incomplete line
        return None
    if last["event"] == "end":
        return last
    return None if alive else {"event": "end", "time": last["time"], "status": "KILLED"}


def _running(refused: Refused) -> set[Path]:
    """Return the journals of stages that are running, or have ended and await their lock entry."""
    return set(journals().glob("*.jsonl")) - refused.keys()


def _alive(start: dict[str, Any]) -> bool:
    """Return whether a stage is running.

    Process IDs are reused, so the process must also have started when the stage did; journals of older versions of
    Tauflow lack that time, and their stages have ended. On another machine only the stage's lock can tell.
    """
    if start.get("host", platform.node()) != platform.node():
        return is_attempted(start["name"])
    started = start.get("process_started")
    try:
        process = psutil.Process(start["pid"])
        same = isinstance(started, int | float) and abs(process.create_time() - started) < CLOCK_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, psutil.AccessDenied, ValueError, OverflowError):
        return False


def lock_entry(root: Path, stage: str, after_ms: float) -> Entry | None:
    """Return a stage's entry in ``dvc.lock`` if it was written after ``after_ms`` (milliseconds since the epoch)."""
    path = root / "dvc.lock"
    if not path.exists() or path.stat().st_mtime * 1000 < after_ms:
        return None
    return read_lock(root).get(stage)


def _read_until_end() -> threading.Thread:
    """Return a thread that lives until this process's standard input is closed."""
    reader = threading.Thread(target=sys.stdin.buffer.read, daemon=True)
    reader.start()
    return reader


if __name__ == "__main__":
    track(float(sys.argv[1]), _read_until_end().is_alive)
