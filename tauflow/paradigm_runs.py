"""The MLflow runs that one compares: one per model and paradigm of an invocation, with its numbers and its cost.

Numbers come from the stage `summary`. What they cost is found backwards: ``dvc.lock`` names the outputs that they
were made from, and the run of a stage instance with these outputs, be it of this invocation or of an earlier one,
knows how long that took. So a paradigm that was not trained again does not look free.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunStatus
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID

from tauflow.lockfile import Entry, outputs, parameters, read_settled_lock

TRAINING_STAGES = ("finetune", "finetune_regularised")


def log_paradigm(client: MlflowClient, summary: Run, event: dict[str, Any]) -> None:
    """Make the run of a paradigm, unless there is one of this summary already.

    It is no child of the invocation's run, below which MLflow would fold it away together with the stages.
    """
    model, paradigm = event["model"], event["paradigm"]
    run_id = _run_of(client, summary, event)
    lineage = Lineage(client, summary.info.experiment_id, read_settled_lock(Path(event["root"])), model, paradigm)
    values = {**event["values"], **dict(lineage.costs())}
    client.log_batch(
        run_id,
        metrics=[Metric(key, value, event["time"], 0) for key, value in values.items()],
        params=[Param(key, str(value)) for key, value in lineage.params().items()],
    )
    client.set_terminated(run_id, RunStatus.to_string(RunStatus.FINISHED), event["time"])


def _run_of(client: MlflowClient, summary: Run, event: dict[str, Any]) -> str:
    experiment, own = summary.info.experiment_id, f"{summary.info.run_id} {event['model']} {event['paradigm']}"
    made = client.search_runs([experiment], f"tags.`tauflow.summary` = '{own}'", max_results=1)
    if made:  # by a tracker that was killed before it could note so
        return made[0].info.run_id
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
    """What a paradigm's numbers were made from, by ``dvc.lock``, and the runs that know what that took."""

    client: MlflowClient
    experiment_id: str
    lock: dict[str, Entry]
    model: str
    paradigm: str

    def params(self) -> dict[str, Any]:
        """In what paradigms differ; only their names where ``dvc.lock`` says nothing."""
        names = {"model": self.model, "paradigm": self.paradigm}
        if not self._trained:
            return names
        evaluated, trained = parameters(self._single_task), parameters(self.lock[self._trained[0]])
        of_recipe = f"recipe.{self._recipe}."
        return {
            **names,
            "recipe": self._recipe,
            "trainable": trained.get(f"{of_recipe}trainable"),
            "trained_in": trained.get(f"{of_recipe}trained_in"),
            "evaluated_in": evaluated.get(f"paradigm.{self.paradigm}.evaluated_in"),
            "regulariser": trained.get(f"{of_recipe}regulariser.name", "none"),
            "regulariser_weight": trained.get(f"{of_recipe}regulariser.weight", 0),
            "lr": trained.get("finetune.lr") or trained.get(f"schedule.{self._recipe}.lr"),
            "length": trained.get(f"schedule.{self._recipe}.length"),
            "seed": trained.get("seed"),
        }

    def costs(self) -> Iterator[tuple[str, float]]:
        """Metrics of what the paradigm took, each only if all the runs that it is made of are known."""
        trainings = self._runs(self._trained)
        if trainings:
            images, seconds = (sum(parts) for parts in zip(*map(self._training, trainings), strict=True))
            yield "cost/training_seconds", seconds
            yield "cost/training_images_per_second", images / seconds
        vectors = self._runs([f"task_vector@{self.model}-{task}-{self._recipe}" for task in self._tasks[:1]])
        if vectors:
            yield "cost/trained_parameters", vectors[0].data.metrics["parameters"]
        searches = self._runs(self._searched)
        if searches:
            yield "cost/search_seconds", sum(run.data.metrics["seconds"] for run in searches)

    @property
    def _single_task(self) -> Entry:
        return self.lock.get(f"single_task@{self.model}-{self.paradigm}", {})

    @property
    def _recipe(self) -> str:
        """The last argument of the stages that evaluate a paradigm."""
        return self._single_task.get("cmd", "").rpartition(" ")[2]

    @property
    def _tasks(self) -> list[str]:
        return parameters(self._single_task).get("tasks", [])

    @property
    def _trained(self) -> list[str]:
        """A fine-tuning per task. The lock file may hold those of other suites too."""
        names = [f"{kind}@{self.model}-{task}-{self._recipe}" for task in self._tasks for kind in TRAINING_STAGES]
        return [name for name in names if name in self.lock]

    @property
    def _searched(self) -> list[str]:
        """In tangent space, most of a search is the propagation of the images."""
        search = f"alpha_search@{self.model}-{self.paradigm}"
        if parameters(self._single_task).get(f"paradigm.{self.paradigm}.evaluated_in") == "weight":
            return [search]
        return [f"features@{self.model}-{self._recipe}-val", search]

    def _runs(self, names: list[str]) -> list[Run]:
        """The runs that made what the lock file says of these stage instances; none unless there are all."""
        found = [self._run(name) for name in names if name in self.lock]
        known = [run for run in found if run]
        return known if len(known) == len(names) else []

    def _run(self, name: str) -> Run | None:
        path, md5 = next(iter(outputs(self.lock[name]).items()))
        query = f"tags.`dvc.stage` = '{name}' AND tags.`dvc.outs.{path}` = '{md5}' AND metrics.seconds > 0"
        latest = ["attributes.start_time DESC"]
        found = self.client.search_runs([self.experiment_id], query, order_by=latest, max_results=1)
        return found[0] if found else None

    def _training(self, run: Run) -> tuple[float, float]:
        """Images and seconds of a fine-tuning; of one that was resumed, all of it at the speed of its last part."""
        history = self.client.get_metric_history(run.info.run_id, "images_per_second")
        last = max(history, key=lambda point: point.step)
        images = (last.step + 1) * float(run.data.params["finetune.batch_size"])
        return images, images / last.value
