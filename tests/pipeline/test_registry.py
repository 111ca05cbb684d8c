"""``tauflow register`` and a real `mlflow server`: what is loaded back predicts what the pipeline does."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from artifacts.evaluation.benchmarks import read_inputs
from pipeline.config import load_parameters
from pipeline.evaluation.prediction import predict
from pipeline.images import read_split
from pipeline.io.files import read_json
from tests.pipeline.conftest import Project

pytestmark = [
    pytest.mark.pipeline,
    # Starlette's own, in the client of MLflow 3.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:starlette.*"),
]

TASKS = ("optdigits", "textures", "emoji")

# As on a machine that has the packages of its requirements, but not this repository.
CLASSIFY = """
import json, sys
import mlflow.pyfunc, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[1])
images = np.load(sys.argv[2])
predictions = {}
for task in images.files:
    table = model.predict(images[task], params={"task": task})
    predictions[task] = {column: table[column].tolist() for column in table}
import pipeline
print(json.dumps({"predictions": predictions, "code": pipeline.__file__}))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A tracking server on this machine, with a registry and artifacts of its own."""
    home = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{home / 'server.db'}", "--workers", "1"]
    command += ["--artifacts-destination", str(home / "artifacts")]
    with (home / "log").open("w") as log, subprocess.Popen(command, cwd=home, stdout=log, stderr=log) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_for(f"{url}/health", home / "log")
            yield url
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(url: str, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"the server does not answer:\n{log.read_text()[-2000:]}")


def test_runs_are_logged_to_a_server(clone: Project, server: str) -> None:
    """Runs of some stages, with their artifacts; test_tracking.py logs those of the whole pipeline to a file."""
    logged = {"finetune@mini-clip-textures-standard", "addition@mini-clip-tau_jp", "report"}
    for journal in (clone.root / ".tauflow" / "journal").glob("*.jsonl"):
        if json.loads(journal.read_text().splitlines()[0])["name"] not in logged:
            journal.unlink()
    clone.run("tauflow", "track", MLFLOW_TRACKING_URI=server)
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    assert logged < {run.info.run_name for run in runs}
    (report,) = [run for run in runs if run.info.run_name == "report"]
    assert {"index.html", "results.csv"} <= {item.path for item in client.list_artifacts(report.info.run_id)}
    assert not (clone.root / "mlflow.db").exists()
    assert not list((clone.root / ".tauflow" / "journal").iterdir())


@pytest.mark.parametrize(("paradigm", "options"), [("standard", ("--edit",)), ("posthoc", ("--sum", "--edit"))])
def test_a_registered_edit_predicts_what_the_pipeline_does(
    paradigm: str,
    options: tuple[str, ...],
    reproduced: Project,
    server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In weight space and in tangent space; the sum, and an edit that adds and subtracts."""
    edits = {"--sum": None, "--edit": {"optdigits": 0.5, "textures": -0.25}}
    alpha = read_json(reproduced.root / "reports" / "mini-clip" / paradigm / "alpha.json")["alpha"]["addition"]
    arguments = {"--sum": ["--sum"], "--edit": ["--edit", "optdigits=0.5,textures=-0.25"]}
    for number, option in enumerate(options, 1):
        edit = edits[option]
        result = reproduced.run(
            "tauflow", "register", *arguments[option], "--paradigm", paradigm, MLFLOW_TRACKING_URI=server
        )
        assert result.stdout.splitlines()[0].startswith(f"models:/mini-clip-{paradigm}/{number}: optdigits=")
        assert result.stderr == ""
        expected = _expected(reproduced, paradigm, edit or dict.fromkeys(TASKS[:2], alpha), monkeypatch)
        predicted = _classify(f"models:/mini-clip-{paradigm}/{number}", reproduced, server, tmp_path)
        for task in TASKS:
            assert predicted[task]["index"] == expected[task].tolist(), task
            probabilities = np.array(predicted[task]["probabilities"])
            assert probabilities.sum(axis=1) == pytest.approx(1)
            assert probabilities.max(axis=1) == pytest.approx(predicted[task]["probability"])
            assert probabilities.argmax(axis=1).tolist() == predicted[task]["index"]
            assert set(predicted[task]["class"]) <= set(_classes(reproduced, task))
    client = MlflowClient(server)
    version = client.get_model_version(f"mini-clip-{paradigm}", str(len(options)))
    assert version.tags["tauflow.edit"] == "optdigits=0.5,textures=-0.25"
    assert client.get_run(version.run_id or "").data.params["alpha.textures"] == "-0.25"
    assert not list(reproduced.root.glob("mlruns*"))


def _expected(
    project: Project, paradigm: str, edit: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> dict[str, np.ndarray]:
    """The classes that the evaluation stages would find."""
    with monkeypatch.context() as patch:
        patch.chdir(project.root)
        params = load_parameters(Path("params.yaml"))
        inputs = read_inputs(params, "mini-clip", paradigm, params.paradigm[paradigm].recipe)
        coefficients = torch.tensor([[edit.get(task, 0.0) for task in params.tasks]])
        benchmarks = inputs.benchmarks(TASKS, "test")
        predicted = predict(inputs.space, coefficients, benchmarks, "")
    return {task: predictions.predicted[0] for task, predictions in predicted.items()}


def _classify(uri: str, project: Project, server: str, scratch: Path) -> dict[str, dict[str, list]]:
    splits = {
        task: read_split(project.root / "data" / "tasks" / "test" / f"{task}.safetensors", 10_000) for task in TASKS
    }
    np.savez(scratch / "images.npz", allow_pickle=False, **{task: split.images for task, split in splits.items()})
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-c", CLASSIFY, uri, str(scratch / "images.npz")],
        cwd=scratch,
        env={**environment, "MLFLOW_TRACKING_URI": server},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    answer = json.loads(result.stdout.splitlines()[-1])
    assert Path(answer["code"]).parts[-3:-1] == ("code", "pipeline")
    assert not answer["code"].startswith(str(Path(__file__).parents[2]))
    return answer["predictions"]


def _classes(project: Project, task: str) -> list[str]:
    return read_json(project.root / "data" / "tasks" / "card" / f"{task}.json")["classes"]


def test_images_and_tasks_that_the_model_does_not_take(reproduced: Project, server: str, tmp_path: Path) -> None:
    reproduced.run("tauflow", "register", "--edit", "textures=1", "--name", "mistakes", MLFLOW_TRACKING_URI=server)
    script = """
import sys
import mlflow.pyfunc, numpy as np
model = mlflow.pyfunc.load_model("models:/mistakes/1", model_config={"device": "cpu"})
for shape, task in (((1, 3, 32, 32), "mnist"), ((1, 3, 8, 8), "textures"), ((0, 3, 32, 32), "textures")):
    try:
        model.predict(np.zeros(shape, np.uint8), params={"task": task})
    except mlflow.exceptions.MlflowException as error:
        print(str(error).splitlines()[0])
"""
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": server},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    unknown, shape, empty = result.stdout.splitlines()[-3:]
    assert unknown == "params: unknown task 'mnist'; choose from optdigits, textures, emoji"
    assert shape.startswith("Failed to enforce schema of data")
    assert empty == "there are no images"


def test_an_illegal_name(reproduced: Project, server: str) -> None:
    result = reproduced.run("tauflow", "register", "--sum", "--name", "a/b", check=False, MLFLOW_TRACKING_URI=server)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: a/b: not registered: ")
    assert line.endswith("; try another --name")
