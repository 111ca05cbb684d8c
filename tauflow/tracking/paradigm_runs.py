"""MLflow runs for comparison: one per model and paradigm of an invocation, with its numbers and its cost.

Numbers come from the stage `summary`. Costs are traced back: ``dvc.lock`` names the outputs that the numbers were made
from, and the run of the stage instance that made them, in this or an earlier invocation, has the duration. So a
paradigm that was not trained again does not look free.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunStatus
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID

from tauflow.dvc.lockfile import Entry, outputs, read_settled_lock
from tauflow.tracking.run_search import runs_with_tags


def log_paradigm(client: MlflowClient, summary: Run, event: dict[str, Any]) -> None:
    """Log the run of a paradigm, unless this summary already has one.

    It is not a child of the invocation's run, where MLflow would fold it away together with the stages.
    """
    run_id = _run_of(client, summary, event)
    lineage = Lineage(client, summary.info.experiment_id, read_settled_lock(Path(event["root"])))
    values = {**event["values"], **dict(lineage.costs(event))}
    client.log_batch(
        run_id,
        metrics=[Metric(key, value, event["time"], 0) for key, value in values.items()],
        params=[Param(key, str(value)) for key, value in event["params"].items()],
    )
    client.set_terminated(run_id, RunStatus.to_string(RunStatus.FINISHED), event["time"])


def _run_of(client: MlflowClient, summary: Run, event: dict[str, Any]) -> str:
    experiment, own = summary.info.experiment_id, f"{summary.info.run_id} {event['model']} {event['paradigm']}"
    run = next(runs_with_tags(client, experiment, {"tauflow.summary": own}), None)
    if run:  # made by a tracker that was killed before it recorded that
        return run.info.run_id
    invocation = client.get_run(summary.data.tags[MLFLOW_PARENT_RUN_ID])
    tags = {"tauflow.kind": "paradigm", "tauflow.summary": own, "tauflow.invocation_run": invocation.info.run_id}
    tags |= {"tauflow.model": event["model"], "tauflow.paradigm": event["paradigm"]}
    if MLFLOW_GIT_COMMIT in summary.data.tags:
        tags[MLFLOW_GIT_COMMIT] = summary.data.tags[MLFLOW_GIT_COMMIT]
    name = f"{event['model']} {event['paradigm']}"
    dvc_experiment = invocation.data.tags.get("dvc.experiment")
    if dvc_experiment:
        tags["dvc.experiment"] = dvc_experiment
        name += f" ({dvc_experiment})"
    return client.create_run(experiment, start_time=event["time"], tags=tags, run_name=name).info.run_id


@dataclass(frozen=True)
class Lineage:
    """The runs that made the outputs that ``dvc.lock`` records."""

    client: MlflowClient
    experiment_id: str
    lock: dict[str, Entry]

    def costs(self, event: dict[str, Any]) -> Iterator[tuple[str, float]]:
        """Yield the costs of a paradigm as metrics, each only if all runs that it sums over are known."""
        trainings = self._runs(event["trained"])
        if trainings:
            images, seconds = (sum(parts) for parts in zip(*map(self._training, trainings), strict=True))
            yield "cost/training_seconds", seconds
            yield "cost/training_images_per_second", images / seconds
        vectors = self._runs(event["vectors"][:1])
        if vectors:
            yield "cost/trained_parameters", vectors[0].data.metrics["parameters"]
        searches = self._runs(event["searched"])
        if searches:
            yield "cost/search_seconds", sum(run.data.metrics["seconds"] for run in searches)

    def _runs(self, names: list[str]) -> list[Run]:
        """Return the runs that made the recorded outputs of these stage instances; empty unless all are known."""
        runs = [self._run(name) for name in names if name in self.lock]
        known = [run for run in runs if run]
        return known if len(known) == len(names) else []

    def _run(self, name: str) -> Run | None:
        path, md5 = next(iter(outputs(self.lock[name]).items()))
        tags = {"dvc.stage": name, f"dvc.outs.{path}": md5}
        return next(runs_with_tags(self.client, self.experiment_id, tags, "metrics.seconds > 0"), None)

    def _training(self, run: Run) -> tuple[float, float]:
        """Return images and seconds of a fine-tuning; a resumed one counts as all run at the speed of its last part."""
        history = self.client.get_metric_history(run.info.run_id, "images_per_second")
        last = max(history, key=lambda point: point.step)
        # Runs of earlier versions did not log images; all their batches were full.
        images = run.data.metrics.get("images", (last.step + 1) * float(run.data.params["finetune.batch_size"]))
        return images, images / last.value
