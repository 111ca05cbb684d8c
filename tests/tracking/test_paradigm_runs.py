"""The runs that one compares: a paradigm's numbers, what they were made with, and what they cost."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tauflow.tracking import tracker
from tauflow.tracking.journal import Journal
from tests.tracking.conftest import Store, start_event

TASKS = ["digits", "signs"]
BATCH = 32
PARAMS = {"model": "m", "paradigm": "p", "recipe": "mine", "regulariser_weight": 0.4, "seed": 7}
VALUES = {"accuracy/addition": 0.75, "interval/addition_low": 0.7, "coefficient/alpha": 0.3}


def entry(command: str, md5: str, **params: Any) -> dict[str, Any]:
    outs = [{"path": f"data/{command.replace(' ', '/')}", "md5": md5, "size": 1}]
    return {"cmd": f"python -m stages.{command}", "outs": outs, "params": {"params.yaml": params}}


def lock(md5: str = "1" * 32) -> dict[str, dict[str, Any]]:
    """DVC's lock entries when the summary runs, including stale ones of another suite."""
    return {
        **{
            f"finetune_regularised@m-{task}-mine": entry(f"finetune_regularised m {task} mine", md5)
            for task in (*TASKS, "task_of_another_suite")
        },
        "task_vector@m-digits-mine": entry("task_vector m digits mine", md5),
        "single_task@m-p": entry("single_task m p mine", md5),
        "features@m-mine-val": entry("features m mine val", md5),
        "alpha_search@m-p": entry("alpha_search m p mine", md5, **{"paradigm.p": {"recipe": "mine"}}),
        "summary": entry("summary", md5),
    }


def write(workspace: Path, content: dict[str, Any]) -> None:
    path = workspace / "dvc.lock"
    path.write_text(yaml.safe_dump({"schema": "2.0", "stages": content}))
    later = time.time() + 1
    os.utime(path, (later, later))


def stage(workspace: Path, name: str, invocation: str, seconds: float, **metrics: float) -> None:
    journal = Journal.open(**start_event(name, workspace, invocation, **{"finetune.batch_size": BATCH}))
    journal.metrics({"seconds": seconds, **metrics})
    journal.append("end", status="FINISHED", error=None)


def finetunings(workspace: Path, invocation: str, first: int = 0) -> None:
    """Ten steps per task, at 64 and at 128 images per second; of a resumed one, only the later steps are known."""
    for task, rate in zip(TASKS, (64.0, 128.0), strict=True):
        event = start_event(f"finetune_regularised@m-{task}-mine", workspace, invocation)
        event["params"] = {"finetune.batch_size": BATCH}
        journal = Journal.open(**event)
        for step in range(first, 10):
            journal.metrics({"images_per_second": rate if step == 9 else 1.0}, step)
        journal.metrics({"seconds": 1000.0})
        journal.append("end", status="FINISHED", error=None)


def summary(workspace: Path, monkeypatch: pytest.MonkeyPatch, invocation: str = "process 1") -> None:
    monkeypatch.chdir(workspace)
    journal = Journal.open(**start_event("summary", workspace, invocation))
    headline = {
        "model": "m",
        "paradigm": "p",
        "values": VALUES,
        "params": PARAMS,
        "trained": [f"finetune_regularised@m-{task}-mine" for task in TASKS],
        "vectors": [f"task_vector@m-{task}-mine" for task in TASKS],
        "searched": ["features@m-mine-val", "alpha_search@m-p"],
    }
    journal.paradigm(headline)
    journal.append("end", status="FINISHED", error=None)


@pytest.mark.parametrize("first", [0, 6])
def test_numbers_parameters_and_cost(first: int, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finetunings(workspace, "process 1", first)
    stage(workspace, "task_vector@m-digits-mine", "process 1", 1.0, parameters=1234.0)
    stage(workspace, "features@m-mine-val", "process 1", 5.0)
    stage(workspace, "alpha_search@m-p", "process 1", 0.5)
    summary(workspace, monkeypatch)
    write(workspace, lock())
    assert tracker.track(0) == 0
    store = Store()
    run = store.named("m p (fond-coot)")
    assert run.info.status == "FINISHED"
    assert run.data.params == {name: str(value) for name, value in PARAMS.items()}
    images = 10 * BATCH
    seconds = images / 64 + images / 128
    assert run.data.metrics == {
        **VALUES,
        "cost/training_seconds": pytest.approx(seconds),
        "cost/training_images_per_second": pytest.approx(2 * images / seconds),
        "cost/trained_parameters": 1234,
        "cost/search_seconds": 5.5,
    }
    tags = run.data.tags
    assert "mlflow.parentRunId" not in tags
    assert tags["tauflow.invocation_run"] == store.named("dvc repro 2026-01-01 12:00").info.run_id
    assert (tags["tauflow.kind"], tags["tauflow.model"], tags["tauflow.paradigm"]) == ("paradigm", "m", "p")
    kinds = {r.info.run_name: r.data.tags["tauflow.kind"] for r in store.runs()}
    assert kinds["summary"] == "stage"
    assert kinds["dvc repro 2026-01-01 12:00"] == "invocation"


def test_results_that_are_not_retrained_keep_their_cost(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its runs are of an earlier invocation; those of other results count for nothing."""
    finetunings(workspace, "process 1")
    write(workspace, lock())
    assert tracker.track(0) == 0
    summary(workspace, monkeypatch, "process 2")
    write(workspace, lock())
    assert tracker.track(0) == 0
    (known,) = [run for run in Store().runs() if run.data.tags["tauflow.kind"] == "paradigm"]
    assert known.data.metrics["cost/training_seconds"] == pytest.approx(7.5)
    assert "cost/search_seconds" not in known.data.metrics

    summary(workspace, monkeypatch, "process 3")
    write(workspace, lock(md5="2" * 32))
    assert tracker.track(0) == 0
    unknown = next(run for run in Store().runs() if run.data.tags["tauflow.kind"] == "paradigm")
    assert unknown.info.run_id != known.info.run_id
    assert unknown.data.metrics == VALUES


def test_without_a_lock_file_there_are_the_numbers(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when DVC has removed the copy that an experiment ran in."""
    monkeypatch.setattr(tracker, "LOCK_ENTRY_SECONDS", 0.0)
    summary(workspace, monkeypatch)
    assert tracker.track(0) == 0
    run = Store().named("m p (fond-coot)")
    assert run.data.metrics == VALUES
    assert run.data.params == {name: str(value) for name, value in PARAMS.items()}


def test_a_long_fine_tuning_is_logged_before_the_summary(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal is read in parts, and the paradigm's run looks for what came first."""
    monkeypatch.setattr(tracker, "BYTES_AT_ONCE", 100)
    finetunings(workspace, "process 1")
    summary(workspace, monkeypatch)
    write(workspace, lock())
    assert tracker.track(0) == 0
    assert Store().named("m p (fond-coot)").data.metrics["cost/training_seconds"] == pytest.approx(7.5)


def test_an_interrupted_tracker_makes_no_second_run(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finetunings(workspace, "process 1")
    summary(workspace, monkeypatch)
    write(workspace, lock())

    save = tracker.Bookmark.save

    def failing_save(progress: tracker.Bookmark) -> None:
        if progress.offset > 0:
            raise OSError("killed")
        save(progress)

    with monkeypatch.context() as patch:
        patch.setattr(tracker.Bookmark, "save", failing_save)
        assert tracker.track(0) == len(TASKS) + 1
    assert tracker.track(0) == 0
    names = [run.info.run_name for run in Store().runs()]
    assert names.count("m p (fond-coot)") == 1
    assert len(names) == len(set(names)) == 1 + len(TASKS) + 1 + 1
    assert Store().named("m p (fond-coot)").data.metrics["cost/training_seconds"] == pytest.approx(7.5)
