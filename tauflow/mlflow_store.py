"""The MLflow side of tracking: experiments, parent and child runs."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from tauflow.workspace import home, tracking_uri

# MLflow refuses more in one call.
METRICS_PER_CALL = 1000


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
        store = cls(MlflowClient(tracking_uri()))
        store.check()
        return store

    def check(self) -> None:
        """Raise what MLflow raises if the store does not answer."""
        self.client.search_experiments(max_results=1)

    def start(self, event: dict[str, Any], journal: str) -> str:
        """Start the run of a stage instance, below its invocation's parent run, unless its journal has one."""
        experiment = self._experiment(event["suite"])
        parent = self._parent(experiment, event)
        begun = self.client.search_runs([experiment], f"tags.`tauflow.journal` = '{journal}'", max_results=1)
        if begun:  # by a tracker that was killed before it could note so
            run = begun[0]
        else:
            tags = {**event["tags"], "tauflow.journal": journal, MLFLOW_RUN_NAME: event["name"]}
            tags[MLFLOW_PARENT_RUN_ID] = parent
            if event["revision"]:
                tags[MLFLOW_GIT_COMMIT] = event["revision"]
            run = self.client.create_run(experiment, start_time=event["time"], tags=tags, run_name=event["name"])
        params = [Param(key, str(value)) for key, value in event["params"].items()]
        self.client.log_batch(run.info.run_id, params=params)
        return run.info.run_id

    def log(self, run_id: str, events: list[dict[str, Any]]) -> None:
        """Log metrics and artifacts."""
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
                self.client.log_artifact(run_id, event["path"])

    def finish(self, run_id: str, ended: dict[str, Any], lock_entry: dict[str, Any] | None) -> None:
        """End a run; tags lead back to the DVC artifacts it read and wrote."""
        tags = []
        for kind in ("deps", "outs"):
            for item in (lock_entry or {}).get(kind, []):
                tags.append(RunTag(f"dvc.{kind}.{item['path']}", item.get("md5", "")))
        self.client.log_batch(run_id, tags=tags)
        self.client.set_terminated(run_id, ended["status"], ended["time"])

    def close(self) -> None:
        """End the parent runs."""
        for run_id in self.parents.values():
            self.client.set_terminated(run_id, RunStatus.to_string(RunStatus.FINISHED))

    def _experiment(self, suite: str) -> str:
        experiment = self.client.get_experiment_by_name(suite)
        if experiment is not None:
            return experiment.experiment_id
        local = tracking_uri().startswith("sqlite:")
        artifacts = (home() / "mlflow-artifacts").as_uri() if local else None
        return self.client.create_experiment(suite, artifact_location=artifacts)

    def _parent(self, experiment: str, event: dict[str, Any]) -> str:
        invocation = event["invocation"]
        if invocation not in self.parents:
            query = f"tags.`tauflow.invocation` = '{invocation}'"
            found = self.client.search_runs([experiment], query, max_results=1)
            if found:
                self.parents[invocation] = found[0].info.run_id
            else:
                tags = {"tauflow.invocation": invocation, **event["invocation_tags"]}
                if event["revision"]:
                    tags[MLFLOW_GIT_COMMIT] = event["revision"]
                run = self.client.create_run(
                    experiment, start_time=event["time"], tags=tags, run_name=event["invocation_name"]
                )
                self.parents[invocation] = run.info.run_id
        return self.parents[invocation]
