"""MLflow's runs after a real ``dvc repro``."""

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.io.files import read_json
from tests.pipeline.conftest import Project, copied

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def tracked(reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the study, whose runs are in its store."""
    project = Project(copied(reproduced.root, tmp_path_factory.mktemp("tracked") / "project"), reproduced.forks)
    project.run("tauflow", "track")
    return project


def test_every_stage_instance_is_a_child_run_that_leads_back_to_its_artifacts(tracked: Project) -> None:
    client = MlflowClient(f"sqlite:///{tracked.root / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "tiny"]
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    (parent,) = [run for run in runs if run.data.tags["tauflow.kind"] == "invocation"]
    children = {run.info.run_name: run for run in runs if run.data.tags["tauflow.kind"] == "stage"}
    assert set(children) == set(tracked.lock())
    assert all(child.data.tags["mlflow.parentRunId"] == parent.info.run_id for child in children.values())
    assert all(child.info.status == "FINISHED" for child in children.values())
    head = tracked.run("git", "rev-list", "--max-parents=0", "HEAD").stdout.strip()
    assert parent.data.tags["mlflow.source.git.commit"] == head

    name = "finetune@mini-clip-textures-standard"
    child = children[name]
    assert float(child.data.params["recipe.standard.schedule.lr"]) > 0
    losses = client.get_metric_history(child.info.run_id, "loss")
    assert [point.step for point in losses] == list(range(len(losses)))
    assert len(losses) >= 6
    entry = tracked.lock()[name]
    (checkpoint,) = [out for out in entry["outs"] if out["path"].startswith("data/checkpoints")]
    assert child.data.tags[f"dvc.outs.{checkpoint['path']}"] == checkpoint["md5"]
    assert "dvc.deps.data/heads/mini-clip/textures.safetensors" in child.data.tags

    addition = children["addition@mini-clip-standard"].data.metrics
    assert 0 <= addition["addition.tuned.accuracy.mean"] <= 1
    artifacts = client.list_artifacts(children["report"].info.run_id)
    assert {"index.html", "results.csv"} <= {artifact.path for artifact in artifacts}
    disentanglement = children["disentanglement@mini-clip-standard"].info.run_id
    assert {item.path for item in client.list_artifacts(disentanglement)} == {"heatmaps.csv", "heatmaps.svg"}
    drawn = next((tracked.root / "mlflow-artifacts").rglob(f"{disentanglement}/artifacts/heatmaps.svg")).read_text()
    assert drawn.startswith("<svg")
    assert "optdigits" in drawn

    assert child.inputs is not None
    (train,) = child.inputs.dataset_inputs
    (split,) = [dep for dep in entry["deps"] if dep["path"] == "data/tasks/train/textures.safetensors"]
    assert (train.dataset.name, train.dataset.digest) == ("textures", split["md5"])
    assert [tag.value for tag in train.tags] == ["train"]


def runs_of(project: Project, kind: str, store: str = "mlflow.db") -> dict[str, Run]:
    """The runs of a kind by name."""
    client = MlflowClient(f"sqlite:///{project.root / store}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "tiny"]
    runs = client.search_runs([experiment.experiment_id], f"tags.`tauflow.kind` = '{kind}'", max_results=1000)
    return {run.info.run_name or "": run for run in runs}


def test_paradigms_have_a_run_each_with_their_numbers_and_cost(tracked: Project) -> None:
    paradigms = runs_of(tracked, "paradigm")
    assert set(paradigms) == {"mini-clip standard", "mini-clip posthoc", "mini-clip tau_jp"}
    written = read_json(tracked.root / "reports" / "metrics.json")["mini-clip"]
    for name, run in paradigms.items():
        metrics, of_paradigm = run.data.metrics, written[name.removeprefix("mini-clip ")]
        for headline, value in of_paradigm.items():
            assert metrics[f"accuracy/{headline}"] == pytest.approx(value, abs=1e-4)
            low, high = (metrics[f"interval/{headline}_{end}"] for end in ("low", "high"))
            assert low <= metrics[f"accuracy/{headline}"] <= high
        chosen = read_json(tracked.root / "reports" / "mini-clip" / name.split()[1] / "alpha.json")
        assert metrics["coefficient/alpha"] == chosen["alpha"]["addition"]
        assert {"cost/training_seconds", "cost/trained_parameters", "cost/search_seconds"} <= set(metrics)
    costs = {name: run.data.metrics["cost/training_seconds"] for name, run in paradigms.items()}
    assert costs["mini-clip posthoc"] == costs["mini-clip standard"] > 0
    assert costs["mini-clip tau_jp"] > costs["mini-clip standard"]
    params = {name: run.data.params for name, run in paradigms.items()}
    assert params["mini-clip tau_jp"]["regulariser"] == "tau_jp"
    assert params["mini-clip posthoc"]["recipe"] == "standard"
    assert params["mini-clip posthoc"]["evaluated_in"] == "tangent"
    assert params["mini-clip standard"]["evaluated_in"] == "weight"


def test_results_that_ran_elsewhere_can_be_logged(tracked: Project) -> None:
    """As after `dvc pull`: no journal, no store. A table that is not that of the lock is not logged."""
    logged, paradigms = runs_of(tracked, "stage"), runs_of(tracked, "paradigm")
    assert tracked.run("tauflow", "track", "--restored").stdout.splitlines()[0] == "0 results had no run"

    elsewhere = f"sqlite:///{tracked.root / 'other.db'}"
    path = tracked.root / "reports" / "mini-clip" / "posthoc" / "addition.json"
    committed = path.read_text()
    path.write_text(committed.replace("0.", "1.", 1))
    output = tracked.run("tauflow", "track", "--restored", MLFLOW_TRACKING_URI=elsewhere).stdout
    assert output.splitlines()[0] == f"{len(tracked.lock()) - 1} results had no run"
    assert "addition@mini-clip-posthoc" not in runs_of(tracked, "stage", "other.db")
    path.write_text(committed)
    output = tracked.run("tauflow", "track", "--restored", MLFLOW_TRACKING_URI=elsewhere).stdout
    assert output.splitlines()[0] == "1 results had no run"
    restored = runs_of(tracked, "stage", "other.db")
    assert set(restored) == set(logged) == set(tracked.lock())
    assert not restored["report"].data.metrics
    for name in (
        "addition@mini-clip-tau_jp",
        "finetune@mini-clip-textures-standard",
        "alpha_search@mini-clip-standard",
    ):
        run = restored[name]
        assert run.data.tags["tauflow.restored"] == "true"
        hashes = {key: value for key, value in logged[name].data.tags.items() if key.startswith("dvc.")}
        assert hashes.items() <= run.data.tags.items()
        known = {key: value for key, value in logged[name].data.metrics.items() if key in run.data.metrics}
        assert known
        assert run.data.metrics == pytest.approx(known, abs=1e-5)
        shared = run.data.params.keys() & logged[name].data.params.keys()
        assert shared
        assert all(run.data.params[key] == logged[name].data.params[key] for key in shared)
    for name, run in runs_of(tracked, "paradigm", "other.db").items():
        before = paradigms[name].data
        assert run.data.params == before.params
        assert run.data.metrics == {key: v for key, v in before.metrics.items() if not key.startswith("cost/")}
    again = tracked.run("tauflow", "track", "--restored", MLFLOW_TRACKING_URI=elsewhere).stdout
    assert again.splitlines()[0] == "0 results had no run"
