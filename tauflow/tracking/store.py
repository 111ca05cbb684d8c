"""The MLflow side of tracking: experiments, parent and child runs, and the runs of paradigms, for comparison."""

import json
import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from artifacts.workspace import home, sqlite_path, tracking_uri
from pipeline.errors import UserError, one_line
from pipeline.io.files import write_json
from pipeline.measurements import read_frame
from pipeline.report.paper.analyses import heatmaps
from pipeline.report.paper.style import to_svg
from tauflow.dvc.lockfile import Entry, outputs, parameters
from tauflow.tracking.dataset_inputs import dataset_inputs
from tauflow.tracking.journal import open_runs_file
from tauflow.tracking.paradigm_runs import log_paradigm
from tauflow.tracking.run_search import runs_with_tags

# MLflow refuses more in one call.
METRICS_PER_CALL, PARAMS_PER_CALL = 1000, 100
# File name of a paradigm's disentanglement table.
HEATMAPS = "heatmaps.csv"
# The description on an experiment's page, and the tag that holds it.
NOTE_TAG = "mlflow.note.content"
NOTE = """**Which paradigm is best, and at what cost?** Select the runs named by model and paradigm, press *Compare*.
`accuracy/…` are shares in [0, 1], means over tasks on test images; `interval/…` their 95 % intervals; `cost/…` is what
training and the coefficient search took. Stages lie folded below their invocation. To see only the former, search for
``tags.`tauflow.kind` = 'paradigm'``.
"""


@dataclass
class Store:
    """One experiment per suite, one parent run per pipeline invocation, one child per stage instance.

    parents: the parent runs so far, by invocation; they end with the tracker.
    """

    client: MlflowClient
    parents: dict[str, str] = field(default_factory=dict)

    @classmethod
    def connect(cls) -> "Store":
        """Connect to the tracking store, check that it answers, and end the runs that a killed tracker left open.

        Raises:
            UserError: an SQLite file cannot be opened.
            MlflowException: the store does not answer.
        """
        _check_sqlite()
        # Fail fast instead of after MLflow's minutes of retries: the journals are kept.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        # MLflow would print an address for each of hundreds of runs.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        store = cls(MlflowClient(tracking_uri()))
        store.check()
        store.parents |= {run_id: run_id for run_id in _open_parents()}
        return store

    def check(self) -> None:
        """Raise MLflow's error if the store does not answer."""
        self.client.search_experiments(max_results=1)

    def start(self, event: dict[str, Any], journal: str) -> str:
        """Start the run of a stage instance below its invocation's, unless its journal has one; return its id."""
        experiment = self.experiment(event["suite"])
        parent = self._parent(experiment, event)
        run = next(runs_with_tags(self.client, experiment, {"tauflow.journal": journal}), None)
        if run is None:  # otherwise a tracker was killed before it recorded the run
            tags = {**event["tags"], "tauflow.kind": "stage", "tauflow.journal": journal}
            tags[MLFLOW_RUN_NAME] = event["name"]
            tags[MLFLOW_PARENT_RUN_ID] = parent
            if event.get("revision"):
                tags[MLFLOW_GIT_COMMIT] = event["revision"]
            run = self.client.create_run(experiment, start_time=event["time"], tags=tags, run_name=event["name"])
        params = [Param(key, str(value)) for key, value in event["params"].items()]
        self.client.log_batch(run.info.run_id, params=params)
        return run.info.run_id

    def log(self, run_id: str, events: list[dict[str, Any]]) -> None:
        """Log metrics, artifacts and the runs of paradigms."""
        metrics = [
            Metric(key, value, event["time"], event["step"])
            for event in events
            if event["event"] == "metrics"
            for key, value in event["values"].items()
        ]
        for start in range(0, len(metrics), METRICS_PER_CALL):
            self.client.log_batch(run_id, metrics=metrics[start : start + METRICS_PER_CALL])
        for event in events:
            if event["event"] == "artifact" and Path(event["path"]).exists():
                self._log_artifact(run_id, Path(event["path"]))
            elif event["event"] == "paradigm":
                log_paradigm(self.client, self.client.get_run(run_id), event)

    def _log_artifact(self, run_id: str, path: Path) -> None:
        """Log a file; for a table of heatmaps also the report's figure, drawn here so that no stage waits for it."""
        self.client.log_artifact(run_id, str(path))
        if path.name == HEATMAPS:
            points = read_frame(path, ("first", "second"))
            tasks = dict.fromkeys([*points["first"], *points["second"]])
            self.client.log_text(run_id, to_svg(heatmaps(points, list(tasks))), path.with_suffix(".svg").name)

    def finish(self, run_id: str, ended: dict[str, Any], lock_entry: Entry | None) -> None:
        """End a run; log the parameters of its lock entry, and tags and dataset inputs that identify its artifacts."""
        tags = []
        for kind in ("deps", "outs"):
            for item in (lock_entry or {}).get(kind, []):
                tags.append(RunTag(f"dvc.{kind}.{item['path']}", item.get("md5", "")))
        self.client.log_batch(run_id, tags=tags)
        params = [Param(key, str(value)) for key, value in _shown(parameters(lock_entry or {})).items()]
        for start in range(0, len(params), PARAMS_PER_CALL):
            self.client.log_batch(run_id, params=params[start : start + PARAMS_PER_CALL])
        inputs = dataset_inputs(lock_entry or {})
        if inputs:
            self.client.log_inputs(run_id, inputs)
        self.client.set_terminated(run_id, ended["status"], ended["time"])

    def knows(self, suite: str, stage: str, entry: Entry) -> bool:
        """Return whether a run of a stage instance has the outputs of an entry of ``dvc.lock``."""
        tags = {"dvc.stage": stage, **{f"dvc.outs.{path}": md5 for path, md5 in outputs(entry).items()}}
        finished = "attributes.status = 'FINISHED'"
        return any(True for _ in runs_with_tags(self.client, self.experiment(suite), tags, finished))

    def close(self) -> None:
        """End the parent runs."""
        for run_id in self.parents.values():
            try:
                self.client.set_terminated(run_id, RunStatus.to_string(RunStatus.FINISHED))
            except MlflowException:  # in another store, or deleted
                continue
        open_runs_file().unlink(missing_ok=True)

    def find_experiment(self, suite: str) -> str | None:
        """Return the id of a suite's experiment if there is one.

        Raises:
            UserError: the experiment has been deleted.
        """
        experiment = self.client.get_experiment_by_name(suite)
        if experiment is not None and experiment.lifecycle_stage == LifecycleStage.DELETED:
            raise UserError(
                f"MLflow experiment {suite!r} is deleted; bring it back with "
                f"`mlflow experiments restore -x {experiment.experiment_id}`, or drop it with `mlflow gc`"
            )
        return experiment.experiment_id if experiment else None

    def experiment(self, suite: str) -> str:
        """Return the id of a suite's experiment, creating it if necessary.

        Raises:
            UserError: the experiment has been deleted.
        """
        known = self.find_experiment(suite)
        if known is not None:
            return known
        local = tracking_uri().startswith("sqlite:")
        artifacts = (home() / "mlflow-artifacts").as_uri() if local else None
        return self.client.create_experiment(suite, artifact_location=artifacts, tags={NOTE_TAG: NOTE})

    def _parent(self, experiment: str, event: dict[str, Any]) -> str:
        invocation = event["invocation"]
        if invocation not in self.parents:
            run = next(runs_with_tags(self.client, experiment, {"tauflow.invocation": invocation}), None)
            if run is None:
                tags = {"tauflow.kind": "invocation", "tauflow.invocation": invocation, **event["invocation_tags"]}
                if event.get("revision"):
                    tags[MLFLOW_GIT_COMMIT] = event["revision"]
                run = self.client.create_run(
                    experiment, start_time=event["time"], tags=tags, run_name=event["invocation_name"]
                )
            self.parents[invocation] = run.info.run_id
            write_json(open_runs_file(), sorted(set(self.parents.values())))
        return self.parents[invocation]


def _open_parents() -> list[str]:
    try:
        content = json.loads(open_runs_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [run_id for run_id in content if isinstance(run_id, str)] if isinstance(content, list) else []


def _check_sqlite() -> None:
    """Check that an SQLite store can be opened; MLflow tries for over a minute.

    Raises:
        UserError: it cannot be opened.
    """
    path = sqlite_path(tracking_uri())
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=20)) as database:
            database.execute("PRAGMA schema_version")
    except (OSError, sqlite3.Error) as error:
        raise UserError(f"MLflow's database {path}: {error}; check the path, its permissions and the disk") from None


def _shown(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the chosen parameters and the recipes, each once; nothing else that is derived.

    The report depends on the recipes as chosen and as derived, which have all their values.
    """
    recipes = {
        key.removeprefix("derived."): value for key, value in params.items() if key.startswith("derived.recipe.")
    }
    return {key: value for key, value in params.items() if not key.startswith("derived.")} | recipes


def reachable_store() -> Store:
    """Return the store, for a command that needs it.

    Raises:
        UserError: it does not answer.
    """
    try:
        return Store.connect()
    except MlflowException as error:
        reason = one_line(error)[:300]
        raise UserError(f"MLflow at {tracking_uri()}: {reason}; start it, or set MLFLOW_TRACKING_URI") from None
