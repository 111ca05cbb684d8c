"""Errors of ``tauflow register``; its registered models are tested on the real pipeline's results."""

from pathlib import Path

import pytest

from tests.cli.conftest import Run

# MLflow's own, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")

UNREACHABLE = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "register: give either --edit TASK=α,... or --sum"),
        (["--sum", "--edit", "textures=1"], "register: give either"),
        (["--edit", "mnist=1"], "--edit: unknown task 'mnist'; choose from optdigits, textures"),
        (["--edit", ""], "'' is not task=coefficient"),
        (["--sum", "--paradigm", "nkt"], "--paradigm: 'nkt' is not in params.yaml; choose from posthoc, ntk"),
        (["--sum", "--model", "x"], "--model: 'x' is not in params.yaml"),
        (["--sum"], "reports/mini-clip/posthoc/alpha.json: no such file; restore it with `dvc checkout"),
        (["--edit", "textures=1"], f"MLflow at {UNREACHABLE}: "),
    ],
)
def test_mistakes_are_one_line(
    project: Path, run: Run, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", UNREACHABLE)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    result = run("register", *arguments)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_nothing_is_registered_without_artifacts(project: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project / 'mlflow.db'}")
    result = run("register", "--edit", "textures=1")
    assert result.exit_code == 1
    line = result.stderr.splitlines()[-1]
    assert line.startswith("error: data/models/mini-clip/image_encoder.safetensors: no such file; restore")
