"""A directory with a real MLflow store of its own, journals as stages write them, and a look into the store."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from artifacts.workspace import tracking_uri
from tauflow.dvc import lockfile
from tauflow.tracking import tracker
from tauflow.tracking.journal import Journal

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables, which take seconds to make."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        MlflowClient(f"sqlite:///{path}").search_experiments(max_results=1)
    finally:
        os.chdir(here)
    return path


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch, no_tracker: None) -> Path:
    """A directory to run stages in, with an empty store of its own."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    for variable in ("DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(tracker, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(lockfile, "MAX_WAIT_SECONDS", 0.0)
    return tmp_path


def start_event(name: str, workspace: Path, invocation: str = "process 1", **params: Any) -> dict[str, Any]:
    return {
        "name": name,
        "root": str(workspace),
        "suite": "tiny",
        "params": {"seed": 0, **params},
        "tags": {"tauflow.stage": name.split("@")[0], "dvc.stage": name},
        "invocation": invocation,
        "invocation_name": "dvc repro 2026-01-01 12:00",
        "invocation_tags": {"dvc.experiment": "fond-coot"},
        "revision": REVISION,
    }


def finished_stage(name: str, workspace: Path, invocation: str = "process 1", steps: int = 3) -> Journal:
    journal = Journal.open(**start_event(name, workspace, invocation, **{"finetune.lr": 3e-4}))
    for step in range(steps):
        journal.metrics({"loss": 1 / (1 + step), "lr": 0.1}, step)
    journal.metrics({"seconds": 1.5})
    journal.append("end", status="FINISHED", error=None)
    return journal


def write_lock(workspace: Path, *names: str) -> None:
    """Write the entry that DVC writes after a stage has ended."""
    entry = {
        "cmd": "python",
        "deps": [{"path": "data/in", "md5": "1" * 32, "size": 3}],
        "outs": [{"path": "data/out", "md5": "2" * 32 + ".dir", "size": 3}],
    }
    path = workspace / "dvc.lock"
    path.write_text(yaml.safe_dump({"schema": "2.0", "stages": dict.fromkeys(names, entry)}))
    later = time.time() + 1
    os.utime(path, (later, later))


class Store:
    """The store as a user sees it."""

    def __init__(self) -> None:
        self.client = MlflowClient(tracking_uri())

    def runs(self, suite: str = "tiny") -> list[Run]:
        experiment = self.client.get_experiment_by_name(suite)
        return list(self.client.search_runs([experiment.experiment_id])) if experiment else []

    def named(self, name: str) -> Run:
        matching = [run for run in self.runs() if run.info.run_name == name]
        assert len(matching) == 1
        return matching[0]

    def history(self, run: Run, metric: str) -> list[tuple[int, float]]:
        return [(m.step, m.value) for m in self.client.get_metric_history(run.info.run_id, metric)]
