"""The MLflow side of tracking: experiments, parent and child runs, and the runs of paradigms that one compares."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from pipeline.errors import UserError
from pipeline.report.analyses import heatmaps
from pipeline.report.figures import to_svg
from tauflow.datasets import dataset_inputs
from tauflow.lockfile import Entry, outputs
from tauflow.paradigm_runs import log_paradigm
from tauflow.workspace import home, tracking_uri

# MLflow refuses more in one call.
METRICS_PER_CALL = 1000
# The table of a paradigm's disentanglement.
HEATMAPS = "heatmaps.csv"
# What the page of an experiment says on top, and the tag that holds it.
NOTE_TAG = "mlflow.note.content"
NOTE = """**Which paradigm is best, and at what cost?** Select the runs named by model and paradigm, press *Compare*.
`accuracy/…` are shares in [0, 1], means over tasks on test images; `interval/…` their 95 % intervals; `cost/…` is what
training and the coefficient search took. Stages lie folded below their invocation. To see only the former, search for
``tags.`tauflow.kind` = 'paradigm'``.
"""


@dataclass
class Store:
    """One experiment per suite, one parent run per pipeline invocation, one child per stage instance."""

    client: MlflowClient
    parents: dict[str, str] = field(default_factory=dict)

    @classmethod
    def connect(cls) -> "Store":
        """Connect to the tracking store and check that it answers."""
        # One quick answer instead of MLflow's minutes of retries: the journals wait, no stage does.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # of each of some hundred runs
        store = cls(MlflowClient(tracking_uri()))
        store.check()
        return store

    def check(self) -> None:
        """Raise what MLflow raises if the store does not answer."""
        self.client.search_experiments(max_results=1)

    def start(self, event: dict[str, Any], journal: str) -> str:
        """Start the run of a stage instance, below its invocation's parent run, unless its journal has one."""
        experiment = self.experiment(event["suite"])
        parent = self._parent(experiment, event)
        begun = self.client.search_runs([experiment], f"tags.`tauflow.journal` = '{journal}'", max_results=1)
        if begun:  # by a tracker that was killed before it could note so
            run = begun[0]
        else:
            tags = {**event["tags"], "tauflow.kind": "stage", "tauflow.journal": journal}
            tags[MLFLOW_RUN_NAME] = event["name"]
            tags[MLFLOW_PARENT_RUN_ID] = parent
            if event["revision"]:
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
        """A table of heatmaps also as the picture of the report: drawn here, no stage waits for it."""
        self.client.log_artifact(run_id, str(path))
        if path.name == HEATMAPS:
            points = pd.read_csv(path)
            tasks = dict.fromkeys([*points["first"], *points["second"]])
            self.client.log_text(run_id, to_svg(heatmaps(points, list(tasks))), path.with_suffix(".svg").name)

    def finish(self, run_id: str, ended: dict[str, Any], lock_entry: Entry | None) -> None:
        """End a run; tags and dataset inputs lead back to the DVC artifacts it read and wrote."""
        tags = []
        for kind in ("deps", "outs"):
            for item in (lock_entry or {}).get(kind, []):
                tags.append(RunTag(f"dvc.{kind}.{item['path']}", item.get("md5", "")))
        self.client.log_batch(run_id, tags=tags)
        inputs = dataset_inputs(lock_entry or {})
        if inputs:
            self.client.log_inputs(run_id, inputs)
        self.client.set_terminated(run_id, ended["status"], ended["time"])

    def knows(self, suite: str, stage: str, entry: Entry) -> bool:
        """Whether a run of a stage instance has the outputs of an entry of ``dvc.lock``."""
        query = f"tags.`dvc.stage` = '{stage}' AND attributes.status = 'FINISHED'"
        made = {f"dvc.outs.{path}": md5 for path, md5 in outputs(entry).items()}
        runs = self.client.search_runs([self.experiment(suite)], query, max_results=1000)
        return any(made.items() <= run.data.tags.items() for run in runs)

    def close(self) -> None:
        """End the parent runs."""
        for run_id in self.parents.values():
            self.client.set_terminated(run_id, RunStatus.to_string(RunStatus.FINISHED))

    def experiment(self, suite: str) -> str:
        """The experiment of a suite, made where there is none."""
        experiment = self.client.get_experiment_by_name(suite)
        if experiment is not None:
            return experiment.experiment_id
        local = tracking_uri().startswith("sqlite:")
        artifacts = (home() / "mlflow-artifacts").as_uri() if local else None
        return self.client.create_experiment(suite, artifact_location=artifacts, tags={NOTE_TAG: NOTE})

    def _parent(self, experiment: str, event: dict[str, Any]) -> str:
        invocation = event["invocation"]
        if invocation not in self.parents:
            query = f"tags.`tauflow.invocation` = '{invocation}'"
            found = self.client.search_runs([experiment], query, max_results=1)
            if found:
                self.parents[invocation] = found[0].info.run_id
            else:
                tags = {"tauflow.kind": "invocation", "tauflow.invocation": invocation, **event["invocation_tags"]}
                if event["revision"]:
                    tags[MLFLOW_GIT_COMMIT] = event["revision"]
                run = self.client.create_run(
                    experiment, start_time=event["time"], tags=tags, run_name=event["invocation_name"]
                )
                self.parents[invocation] = run.info.run_id
        return self.parents[invocation]


def reachable_store() -> Store:
    """The store, for a command that cannot do without.

    Raises:
        UserError: it does not answer.
    """
    try:
        return Store.connect()
    except MlflowException as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"MLflow at {tracking_uri()}: {reason}; start it, or set MLFLOW_TRACKING_URI") from None
