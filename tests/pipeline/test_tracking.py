"""What MLflow shows after the real ``dvc repro``."""

import pytest
from mlflow import MlflowClient

from tests.pipeline.conftest import Project

pytestmark = pytest.mark.pipeline


def test_every_stage_instance_is_a_child_run_that_leads_back_to_its_artifacts(clone: Project) -> None:
    clone.run("tauflow", "track")
    client = MlflowClient(f"sqlite:///{clone.root / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "tiny"]
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {run.info.run_name: run for run in runs if run is not parent}
    assert set(children) == set(clone.lock())
    assert all(child.data.tags["mlflow.parentRunId"] == parent.info.run_id for child in children.values())
    assert all(child.info.status == "FINISHED" for child in children.values())
    head = clone.run("git", "rev-list", "--max-parents=0", "HEAD").stdout.strip()
    assert parent.data.tags["mlflow.source.git.commit"] == head

    name = "finetune@mini-clip-textures-standard"
    child = children[name]
    assert float(child.data.params["schedule.standard.lr"]) > 0
    losses = client.get_metric_history(child.info.run_id, "loss")
    assert [point.step for point in losses] == list(range(len(losses)))
    assert len(losses) >= 6
    entry = clone.lock()[name]
    (checkpoint,) = [out for out in entry["outs"] if out["path"].startswith("data/checkpoints")]
    assert child.data.tags[f"dvc.outs.{checkpoint['path']}"] == checkpoint["md5"]
    assert "dvc.deps.data/heads/mini-clip/textures.safetensors" in child.data.tags

    addition = children["addition@mini-clip-standard"].data.metrics
    assert 0 <= addition["addition.tuned.accuracy.mean"] <= 1
    artifacts = client.list_artifacts(children["report"].info.run_id)
    assert {"index.html", "results.csv"} <= {artifact.path for artifact in artifacts}
