"""Journals survive failures of stages, tracker and server."""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from artifacts.workspace import home, journals, tracking_uri
from pipeline.errors import UserError
from tauflow.running.stage import run_stage
from tauflow.tracking import store as mlflow_store
from tauflow.tracking import tracker
from tauflow.tracking.attempts import stage_lock
from tauflow.tracking.journal import Journal, error_file, tracker_running
from tests.tracking.conftest import REVISION, Store, finished_stage, start_event, write_lock

ROOT = Path(__file__).parents[2]

# A stage that is killed while it runs, with a half-written line.
KILLED = """
import os, signal, sys, json
from tauflow.tracking.journal import Journal
journal = Journal.open(**json.loads(sys.argv[1]))
journal.metrics({"loss": 0.5}, 0)
if sys.argv[2] == "torn":
    with journal.path.open("a") as file:
        file.write('{"event": "metr')
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_stage_becomes_a_child_run(workspace: Path) -> None:
    finished_stage("finetune@tiny-digits", workspace)
    write_lock(workspace, "finetune@tiny-digits")
    assert tracker.track(0) == 0
    store = Store()
    assert len(store.runs()) == 2
    run, parent = store.named("finetune@tiny-digits"), store.named("dvc repro 2026-01-01 12:00")
    assert run.info.status == parent.info.status == "FINISHED"
    assert run.info.end_time is not None
    assert run.info.end_time >= run.info.start_time > 1.7e12
    assert run.data.params == {"seed": "0", "finetune.lr": "0.0003"}
    assert store.history(run, "loss") == [(0, 1), (1, 0.5), (2, 1 / 3)]
    assert store.history(run, "lr") == [(0, 0.1), (1, 0.1), (2, 0.1)]
    assert run.data.metrics["seconds"] == 1.5
    tags = run.data.tags
    assert tags["mlflow.parentRunId"] == parent.info.run_id
    assert tags["tauflow.stage"] == "finetune"
    assert tags["dvc.stage"] == "finetune@tiny-digits"
    assert tags["mlflow.source.git.commit"] == REVISION
    assert tags["dvc.deps.data/in"] == "1" * 32
    assert tags["dvc.outs.data/out"] == "2" * 32 + ".dir"
    assert parent.data.tags["dvc.experiment"] == "fond-coot"
    assert parent.data.tags["tauflow.invocation"] == "process 1"
    assert list(journals().iterdir()) == []


def test_stages_of_one_invocation_share_a_parent(workspace: Path) -> None:
    finished_stage("head@a", workspace)
    finished_stage("head@b", workspace)
    write_lock(workspace, "head@a", "head@b")
    assert tracker.track(0) == 0
    finished_stage("head@c", workspace)
    finished_stage("head@d", workspace, invocation="process 2")
    write_lock(workspace, "head@c", "head@d")
    assert tracker.track(0) == 0
    store = Store()
    parents = {name: store.named(f"head@{name}").data.tags["mlflow.parentRunId"] for name in "abcd"}
    assert parents["a"] == parents["b"] == parents["c"] != parents["d"]
    assert len(store.runs()) == 4 + 2


def test_a_failed_stage(workspace: Path) -> None:
    journal = Journal.open(**start_event("head@a", workspace))
    journal.append("end", status="FAILED", error="no such file")
    assert tracker.track(0) == 0
    assert Store().named("head@a").info.status == "FAILED"


def test_a_lock_file_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    """DVC does not write it atomically; the tracker once gave up over half a line."""
    lock = "stages:\n  head@m-t:\n    cmd: c\n    outs:\n    - path: p\n      md5: 1a\n  other@m-t:\n    cmd: c\n"
    (tmp_path / "dvc.lock").write_text(lock[: lock.index(":\n    cmd: c\n", 40)])
    assert tracker.lock_entry(tmp_path, "head@m-t", 0) is None
    (tmp_path / "dvc.lock").write_text(lock)
    assert tracker.lock_entry(tmp_path, "head@m-t", 0) == {"cmd": "c", "outs": [{"path": "p", "md5": "1a"}]}


def test_a_tracker_that_fails_ends_the_parent_run(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else would: the next tracker knows the parents of its own journals only."""

    def fail(*arguments: object) -> None:
        raise OSError("disk full")

    finished_stage("head@m-t", workspace)
    monkeypatch.setattr(tracker, "lock_entry", fail)
    assert tracker.track(0) == 1
    assert "disk full" in error_file().read_text()
    (parent,) = [run for run in Store().runs() if "mlflow.parentRunId" not in run.data.tags]
    assert parent.info.status == "FINISHED"


def test_a_stage_by_hand_has_no_lock_entry(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for, but not for ever; the entry of an earlier run is not this run's."""
    monkeypatch.setattr(tracker, "LOCK_ENTRY_SECONDS", 0.2)
    write_lock(workspace, "head@a")
    os.utime(workspace / "dvc.lock", (1, 1))
    finished_stage("head@a", workspace)
    assert tracker.track(0) == 0
    run = Store().named("head@a")
    assert run.info.status == "FINISHED"
    assert not [tag for tag in run.data.tags if tag.startswith("dvc.deps")]


@pytest.mark.parametrize("end", ["whole", "torn"])
def test_a_killed_stage(end: str, workspace: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    event = json.dumps(start_event("finetune@a", workspace))
    killed = subprocess.run([sys.executable, "-c", KILLED, event, end], env=environment, check=False)
    assert killed.returncode == -9
    assert len(list(journals().glob("*.jsonl"))) == 1
    assert tracker.track(0) == 0
    store = Store()
    assert store.named("finetune@a").info.status == "KILLED"
    assert store.history(store.named("finetune@a"), "loss") == [(0, 0.5)]
    assert list(journals().iterdir()) == []


@pytest.mark.parametrize("content", ["", '{"event": "sta'])
def test_a_stage_killed_before_it_began(content: str, workspace: Path) -> None:
    """Its journal says nothing, and keeps no other journal from being logged."""
    journals().mkdir(parents=True)
    (journals() / "1-abc.jsonl").write_text(content)
    old = time.time() - 3600
    os.utime(journals() / "1-abc.jsonl", (old, old))
    finished_stage("head@b", workspace)
    write_lock(workspace, "head@b")
    assert tracker.track(0) == 0
    assert Store().named("head@b").info.status == "FINISHED"


def test_a_half_written_line_is_waited_for(workspace: Path) -> None:
    """The tracker reads while stages write."""
    journal = Journal.open(**start_event("finetune@a", workspace))
    store = mlflow_store.Store.connect()
    with journal.path.open("a") as file:
        file.write('{"event": "metrics", "time": 1700000000000, "st')
    tracker._log(store, journal.path)
    with journal.path.open("a") as file:
        file.write('ep": 4, "values": {"loss": 0.25}}\n')
    tracker._log(store, journal.path)
    runs = Store()
    assert runs.history(runs.named("finetune@a"), "loss") == [(4, 0.25)]
    assert runs.named("finetune@a").info.status == "RUNNING"


def test_a_server_that_is_down_loses_nothing(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished_stage("head@a", workspace)
    finished_stage("head@b", workspace)
    write_lock(workspace, "head@a", "head@b")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert tracker.track(0) == 2
    reason = error_file().read_text()
    assert "127.0.0.1" in reason
    assert reason.count("\n") == 1
    assert len(list(journals().glob("*.jsonl"))) == 2

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracker.track(0) == 0
    assert tracker.track(0) == 0
    assert not error_file().exists()
    store = Store()
    assert len(store.runs()) == 3
    for name in ("head@a", "head@b"):
        assert store.history(store.named(name), "loss") == [(0, 1), (1, 0.5), (2, 1 / 3)]


def test_a_journal_that_is_refused_holds_up_no_other(workspace: Path) -> None:
    refused = Journal.open(**start_event("addition@a", workspace))
    refused.metrics({"a metric's name may not hold a +": 1.0})
    refused.append("end", status="FINISHED", error=None)
    finished_stage("head@b", workspace)
    write_lock(workspace, "addition@a", "head@b")
    assert tracker.track(0) == 1
    assert list(journals().glob("*.jsonl")) == [refused.path]
    assert "may not hold a +" in error_file().read_text()
    assert Store().named("head@b").info.status == "FINISHED"


def test_a_running_stage_is_followed(workspace: Path) -> None:
    """Each call logs what is new."""
    journal = Journal.open(**start_event("finetune@a", workspace))
    store = mlflow_store.Store.connect()
    for step in range(4):
        journal.metrics({"loss": float(step)}, step)
        tracker._log_all(store, {})
        tracker._log_all(store, {})
    runs = Store()
    assert runs.history(runs.named("finetune@a"), "loss") == [(step, float(step)) for step in range(4)]
    assert runs.named("finetune@a").info.status == "RUNNING"
    journal.metrics({"loss": 4.0}, 4)
    journal.append("end", status="FAILED", error=None)
    assert tracker.track(0) == 0
    assert runs.history(runs.named("finetune@a"), "loss") == [(step, float(step)) for step in range(5)]
    assert runs.named("finetune@a").info.status == "FAILED"


class InterruptedError_(Exception):
    """The tracker was killed here."""


@pytest.mark.parametrize("saves", range(3))
def test_an_interrupted_tracker_logs_nothing_twice(
    saves: int, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far it came: its progress is lost from the given save on."""
    finished_stage("finetune@a", workspace, steps=5)
    write_lock(workspace, "finetune@a")
    save, count = tracker.Bookmark.save, 0

    def failing_save(progress: tracker.Bookmark) -> None:
        nonlocal count
        count += 1
        if count > saves:
            raise InterruptedError_
        save(progress)

    with monkeypatch.context() as patch:
        patch.setattr(tracker.Bookmark, "save", failing_save)
        remaining = tracker.track(0)
    assert remaining == (1 if saves < 2 else 0)
    assert tracker.track(0) == 0
    store = Store()
    assert len(store.runs()) == 2
    run = store.named("finetune@a")
    assert store.history(run, "loss") == [(step, 1 / (1 + step)) for step in range(5)]
    assert run.info.status == "FINISHED"


def test_many_metrics(workspace: Path) -> None:
    """More than MLflow takes in one call."""
    journal = Journal.open(**start_event("finetune@a", workspace))
    for step in range(1100):
        journal.metrics({"loss": float(step)}, step)
    journal.append("end", status="FINISHED", error=None)
    write_lock(workspace, "finetune@a")
    assert tracker.track(0) == 0
    store = Store()
    assert store.history(store.named("finetune@a"), "loss") == [(step, float(step)) for step in range(1100)]


def test_artifacts_are_kept_with_the_run(workspace: Path) -> None:
    (workspace / "page.html").write_text("<p>hello")
    journal = Journal.open(**start_event("report", workspace))
    journal.artifact(Path("page.html"))
    journal.artifact(Path("gone.html"))
    journal.append("end", status="FINISHED", error=None)
    write_lock(workspace, "report")
    assert tracker.track(0) == 0
    store = Store()
    run = store.named("report")
    assert [item.path for item in store.client.list_artifacts(run.info.run_id)] == ["page.html"]
    (kept,) = (workspace / "mlflow-artifacts").rglob("page.html")
    assert kept.read_text() == "<p>hello"


def test_queued_experiments_log_to_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC runs them in copies below .dvc/tmp/exps."""
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmpabc"
    copy.mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(copy))
    assert home() == tmp_path
    assert journals() == tmp_path / ".tauflow" / "journal"
    assert tracking_uri() == f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    assert tracking_uri() == "http://server"


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_a_stage_starts_the_tracker(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One, in the background, which logs without being waited for."""
    monkeypatch.setenv("TAUFLOW_TRACKER", "on")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    before = {process.pid for process in psutil.Process().children()}
    finished_stage("head@a", workspace)
    write_lock(workspace, "head@a")
    started = [process for process in psutil.Process().children() if process.pid not in before]
    assert len(started) == 1
    assert started[0].cmdline()[1:3] == ["-m", "tauflow.tracking.tracker"]
    try:
        deadline = time.monotonic() + 120
        while list(journals().iterdir()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert Store().named("head@a").info.status == "FINISHED"
    finally:
        started[0].kill()
        started[0].wait()


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_a_command_has_a_tracker_until_it_ends(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For stages that run on other machines, whatever time passes between them."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TAUFLOW_TRACKER", "on")
    before = {process.pid for process in psutil.Process().children()}
    with tracker_running():
        (started,) = [process for process in psutil.Process().children() if process.pid not in before]
        monkeypatch.setenv("TAUFLOW_TRACKER", "off")
        for name in ("head@a", "head@b"):
            finished_stage(name, workspace)
            write_lock(workspace, "head@a", "head@b")
            deadline = time.monotonic() + 120
            while list(journals().iterdir()) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert Store().named(name).info.status == "FINISHED"
        assert started.status() != psutil.STATUS_ZOMBIE
    assert started.wait(60) == 0


def test_a_stage_of_another_machine_lives_as_long_as_it_holds_its_lock(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process number means nothing here."""
    with monkeypatch.context() as patch:
        patch.setattr(platform, "node", lambda: "elsewhere")
        journal = Journal.open(**start_event("finetune@a", workspace))
    journal.path.write_text(journal.path.read_text().replace(f'"pid": {os.getpid()}', '"pid": 999999999'))
    journal.metrics({"loss": 0.5}, 0)
    store = mlflow_store.Store.connect()
    with stage_lock("finetune@a"):
        tracker._log(store, journal.path)
        assert Store().named("finetune@a").info.status == "RUNNING"
    tracker._log(store, journal.path)
    assert Store().named("finetune@a").info.status == "KILLED"
    assert not journal.path.exists()


@pytest.fixture
def parameters(workspace: Path, study_parameters: Path) -> None:
    for path in (study_parameters, ROOT / "dvc.yaml"):
        shutil.copy(path, workspace)


def events() -> list[dict[str, Any]]:
    (path,) = journals().glob("*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_stage_writes_its_journal(parameters: None, workspace: Path) -> None:
    with run_stage("finetune@mini-clip-icons-standard") as stage:
        stage.journal.metrics({"loss": 0.5}, 3)
    start, metrics, seconds, end = events()
    assert start["name"] == stage.name == "finetune@mini-clip-icons-standard"
    assert stage.instance.stage == start["tags"]["tauflow.stage"] == "finetune"
    assert start["root"] == str(workspace)
    assert start["suite"] == "mini"
    assert start["params"] == {"seed": 0}
    assert start["tags"]["tauflow.recipe"] == "standard"
    assert start["pid"] == os.getpid()
    assert (metrics["step"], metrics["values"]) == (3, {"loss": 0.5})
    assert seconds["values"].keys() == {"seconds"}
    assert (end["event"], end["status"]) == ("end", "FINISHED")


def test_a_user_error_is_one_line(parameters: None, capsys: pytest.CaptureFixture[str]) -> None:
    def stage() -> None:
        with run_stage("head@mini-clip-icons"):
            raise UserError("icons.json: no such file")

    with pytest.raises(SystemExit) as exit_:
        stage()
    assert exit_.value.code == 1
    assert capsys.readouterr().err == "error: head@mini-clip-icons: icons.json: no such file\n"
    assert (events()[-1]["status"], events()[-1]["error"]) == ("FAILED", "icons.json: no such file")


@pytest.mark.parametrize(("error", "status"), [(RuntimeError("bug"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_other_errors_keep_their_traceback(error: BaseException, status: str, parameters: None) -> None:
    def stage() -> None:
        with run_stage("report"):
            raise error

    with pytest.raises(type(error)) as raised:
        stage()
    assert raised.value is error
    assert events()[-1]["status"] == status


def test_wrong_parameters_stop_a_stage_at_once(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "params.yaml").write_text("sede: 1\n")
    with pytest.raises(SystemExit), run_stage("report"):
        pytest.fail("the body must not run")
    line = capsys.readouterr().err
    assert line.startswith("error: report: params.yaml: unknown key 'sede' (value 1); choose from suite, ")
    assert line.count("\n") == 1


def test_a_stage_says_that_it_was_not_logged(parameters: None, capsys: pytest.CaptureFixture[str]) -> None:
    journals().mkdir(parents=True)
    error_file().write_text("ConnectionError: no server\n")
    with run_stage("report"):
        pass
    assert "not logged to MLflow, kept for `tauflow track`: ConnectionError: no server" in capsys.readouterr().err
