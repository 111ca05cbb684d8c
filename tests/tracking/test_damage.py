"""A tracker ends, and says why not everything was logged, whatever it finds: reused process numbers, damage, quotes."""

import json
import os
import platform
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from artifacts.workspace import journals
from tauflow.tracking import store as mlflow_store
from tauflow.tracking import tracker
from tauflow.tracking.journal import Journal, error_file, has_pending_work, open_runs_file
from tests.tracking.conftest import Store, finished_stage, start_event, write_lock

ROOT = Path(__file__).parents[2]


def journal_of(workspace: Path, **identity: object) -> Path:
    """The journal of a stage that was killed."""
    hour = 3_600_000
    start = start_event("head@a", workspace) | {"event": "start", "time": round(time.time() * 1000) - hour, **identity}
    journals().mkdir(parents=True, exist_ok=True)
    path = journals() / f"{time.time_ns()}-0badc0de.jsonl"
    path.write_text(json.dumps(start) + "\n")
    return path


@pytest.mark.parametrize(
    "started", [{}, {"process_started": 1.0}, {"process_started": None}, {"process_started": "soon"}]
)
@pytest.mark.parametrize(
    "pid",
    [1, os.getpid(), os.getppid(), 0, -1, 2**40, 2**70],
    ids=["init", "own", "parent", "zero", "negative", "large", "huge"],
)
def test_a_process_number_that_is_in_use_keeps_no_journal(workspace: Path, pid: int, started: dict) -> None:
    journal_of(workspace, pid=pid, host=platform.node(), **started)
    assert tracker.track(0) == 0
    assert Store().named("head@a").info.status == "KILLED"


def test_a_stage_that_runs_is_waited_for_and_named(workspace: Path) -> None:
    """The other side of it: the same process, which has started when the journal says."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stage:
        started = psutil.Process(stage.pid).create_time()
        journal_of(workspace, pid=stage.pid, host=platform.node(), process_started=started)
        command = [sys.executable, "-m", "tauflow.tracking.tracker", "0"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as tracking:
            assert tracking.stderr
            line = next(line for line in tracking.stderr if line.startswith("note: waiting"))
            assert line == f"note: waiting for head@a to end (process {stage.pid} on {platform.node()})\n"
            assert tracking.poll() is None
            stage.communicate(b"\n")
            tracking.communicate(timeout=60)
    assert Store().named("head@a").info.status == "KILLED"


DAMAGED = {
    "text": "hello\n",
    "a list": "[1]\n",
    "not a start": '{"event": "metrics", "time": 1, "step": 0, "values": {}}\n',
    "a start without a name": '{"event": "start", "time": 1, "pid": 1}\n',
    "bytes": b"\x00\xff\xfe\n",
    "deep": "[" * 100_000 + "\n",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_journal_is_named_once_and_kept(
    kind: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journals().mkdir(parents=True)
    content = DAMAGED[kind]
    path = journals() / "1-abc.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    finished_stage("head@b", workspace)
    write_lock(workspace, "head@b")
    assert tracker.track(0) == 0
    assert f"{path}: damaged, not logged; kept as 1-abc.damaged" in capsys.readouterr().err
    assert Store().named("head@b").info.status == "FINISHED"
    assert not error_file().exists()
    assert tracker.track(0) == 0
    assert "damaged" not in capsys.readouterr().err


def test_a_directory_in_place_of_a_journal(workspace: Path) -> None:
    (journals() / "1-abc.jsonl").mkdir(parents=True)
    assert tracker.track(0) == 0
    assert (journals() / "1-abc.damaged").is_dir()


def test_damaged_lines_are_left_out(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal.open(**start_event("head@a", workspace))
    journal.metrics({"loss": 1.0}, 0)
    with journal.path.open("ab") as file:
        file.write(b'{"event": "metr\n\xff\n{"event": "metrics", "time": 1, "step": 1, "values": {"loss": "low"}}\n')
    journal.metrics({"loss": 0.5}, 2)
    journal.append("end", status="FINISHED", error=None)
    write_lock(workspace, "head@a")
    assert tracker.track(0) == 0
    assert "3 lines are damaged and left out" in capsys.readouterr().err
    store = Store()
    assert store.history(store.named("head@a"), "loss") == [(0, 1.0), (2, 0.5)]
    assert store.named("head@a").info.status == "FINISHED"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"run_id": 1, "offset": "x"}', b'{"a": 1}'])
def test_damaged_progress_logs_again_and_nothing_twice(
    content: bytes, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal.open(**start_event("head@a", workspace))
    journal.metrics({"loss": 1.0}, 0)
    first = mlflow_store.Store.connect()
    tracker._log(first, journal.path)
    first.close()
    journal.path.with_suffix(".progress").write_bytes(content)
    journal.append("end", status="FINISHED", error=None)
    write_lock(workspace, "head@a")
    assert tracker.track(0) == 0
    assert capsys.readouterr().err.count("damaged; its journal is logged again") == 1
    store = Store()
    assert store.history(store.named("head@a"), "loss") == [(0, 1.0)]
    assert list(journals().iterdir()) == []


@pytest.mark.parametrize("name", ["it's", "a `b`", 'say "hi"', "'; DROP TABLE runs; --", "a' OR 'b'='b", "größe"])
def test_names_of_experiments_may_hold_quotes(name: str, workspace: Path) -> None:
    """DVC takes any name that git does; two stages of one invocation share its run."""
    for stage in ("head@a", "head@b"):
        finished_stage(stage, workspace, invocation=f"experiment {name} 0123")
    write_lock(workspace, "head@a", "head@b")
    assert tracker.track(0) == 0
    finished_stage("head@c", workspace, invocation=f"experiment {name} 0123")
    write_lock(workspace, "head@c")
    assert tracker.track(0) == 0
    store = Store()
    assert len(store.runs()) == 3 + 1
    assert len({store.named(f"head@{stage}").data.tags["mlflow.parentRunId"] for stage in "abc"}) == 1


@pytest.mark.parametrize("uri", ["sqlite:////proc/no/such.db", "sqlite:///{directory}", "sqlite:///{file}"])
def test_an_sqlite_file_that_cannot_be_opened_is_reported_at_once(
    uri: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / "text.db").write_text("this is not a database, but a text that is long enough\n" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(directory=workspace, file=workspace / "text.db"))
    finished_stage("head@a", workspace)
    began = time.monotonic()
    assert tracker.track(0) == 1
    assert time.monotonic() - began < 5
    assert error_file().read_text().startswith("MLflow's database ")


@pytest.mark.parametrize("name", ["a%20b?c#d", "größe, 100 %", "a&b='c'%3F"])
def test_the_database_lies_in_the_repository(name: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its path holds; so do the artifacts."""
    root = workspace / name
    root.mkdir()
    (workspace / "mlflow.db").rename(root / "mlflow.db")
    monkeypatch.chdir(root)
    before = set(workspace.iterdir())
    (root / "page.html").write_text("<p>hello")
    journal = Journal.open(**start_event("report", root))
    journal.artifact(Path("page.html"))
    journal.append("end", status="FINISHED", error=None)
    write_lock(root, "report")
    command = [sys.executable, "-m", "tauflow.tracking.tracker", "0"]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL, check=True)
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        assert ("report", "FINISHED") in list(database.execute("SELECT name, status FROM runs"))
    assert set(workspace.iterdir()) == before
    assert len(list((root / "mlflow-artifacts").rglob("page.html"))) == 1


def test_a_deleted_experiment_is_named(workspace: Path) -> None:
    finished_stage("head@a", workspace)
    write_lock(workspace, "head@a")
    assert tracker.track(0) == 0
    store = Store()
    experiment = store.client.get_experiment_by_name("tiny")
    assert experiment
    store.client.delete_experiment(experiment.experiment_id)
    finished_stage("head@b", workspace)
    assert tracker.track(0) == 1
    reason = error_file().read_text()
    assert "experiment 'tiny' is deleted" in reason
    assert f"restore -x {experiment.experiment_id}`" in reason
    store.client.restore_experiment(experiment.experiment_id)
    write_lock(workspace, "head@b")
    assert tracker.track(0) == 0
    assert store.named("head@b").info.status == "FINISHED"


def test_the_parent_run_of_a_killed_tracker_is_ended_by_the_next(workspace: Path) -> None:
    journal = Journal.open(**start_event("head@a", workspace))
    with subprocess.Popen(
        [sys.executable, "-m", "tauflow.tracking.tracker", "600"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
    ) as tracking:
        deadline = time.monotonic() + 120
        while not open_runs_file().exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        tracking.send_signal(signal.SIGKILL)
    journal.append("end", status="FAILED", error=None)
    assert has_pending_work()
    assert tracker.track(0) == 0
    assert {run.info.status for run in Store().runs()} == {"FINISHED", "FAILED"}
    assert not has_pending_work()


@pytest.mark.parametrize("content", [b"", b"{}", b"[1, null]", b'["no-such-run"]', b"\xff"])
def test_damaged_notes_of_open_runs_are_ignored(content: bytes, workspace: Path) -> None:
    journals().mkdir(parents=True)
    open_runs_file().write_bytes(content)
    finished_stage("head@a", workspace)
    write_lock(workspace, "head@a")
    assert tracker.track(0) == 0
    assert not open_runs_file().exists()
