"""``tauflow doctor`` where something is wrong, against real servers on this machine."""

import http.server
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from mlflow import MlflowClient

from artifacts.workspace import tracking_uri
from tests.cli.conftest import Run

DVC = (sys.executable, "-m", "dvc")  # this environment's, which need not be activated


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers with the status that the path names, as ``/mirror/404``."""

    def do_HEAD(self) -> None:
        self.send_response(int(self.path.rpartition("/")[2]))
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server on this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def repository(project: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC repository in which nothing is wrong, with a hub on this machine."""
    subprocess.run(["git", "init", "--quiet", "."], check=True)
    for key in ("user.name", "user.email"):
        subprocess.run(["git", "config", key, "t@t"], check=True)
    subprocess.run([*DVC, "init", "--quiet"], check=True)
    for package in ("HF_HUB_OFFLINE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(package, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", f"{server}/404")
    Path("requirements.lock").write_text(f"torch=={metadata.version('torch')} \\\n    --hash=sha256:00\n    # via x\n")
    return project


def findings(run: Run) -> tuple[dict[str, list[str]], int]:
    """Return status and text of every subject, and the exit code."""
    result = run("doctor")
    lines = [line.split(None, 1) for line in result.output.splitlines()]
    return {text.partition(":")[0]: [status, text.partition(": ")[2]] for status, text in lines}, result.exit_code


def test_all_is_well(repository: Path, run: Run) -> None:
    report, code = findings(run)
    assert code == 0
    assert {subject: status for subject, (status, _) in report.items() if status != "ok"} == {}
    assert list(report) == [
        "Python", "packages", "torch", "disk", "git", "parameters", "DVC", "DVC remote", "MLflow", "hub",
    ]  # fmt: skip
    assert report["packages"][1] == "all 1 of requirements.lock"
    assert not (repository / "mlflow.db").exists()


def test_outside_a_repository(project: Path, server: str, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    Path("params.yaml").write_text("seed: 0\nlr: 1\n")
    monkeypatch.setenv("HF_ENDPOINT", f"{server}/200")
    report, code = findings(run)
    assert code == 1
    errors = {subject: text for subject, (status, text) in report.items() if status == "error"}
    assert set(errors) == {"git", "parameters", "DVC"}
    assert "run from its root" in errors["DVC"]
    assert "unknown key 'lr'" in errors["parameters"]
    assert report["packages"] == ["warning", "no requirements.lock here; run from the root of the repository"]


def test_packages_that_the_lock_does_not_have(repository: Path, run: Run) -> None:
    lines = ["torch==0.1 \\", "no-such-package==1.0 \\", "only-there==1 ; sys_platform == 'amiga' \\"]
    Path("requirements.lock").write_text("\n".join(lines))
    report, code = findings(run)
    assert code == 0
    status, text = report["packages"]
    assert status == "warning"
    assert text == (
        f"torch is {metadata.version('torch')}, not ==0.1, no-such-package is not installed; "
        "`make setup` installs requirements.lock"
    )


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("http://127.0.0.1:9", "Connection refused"),
        ("{server}/503", "503"),
        ("mirror.example", "it must begin with http:// or https://"),
        ("file:///etc", "it must begin with http:// or https://"),
    ],
)
def test_a_hub_out_of_reach_is_a_warning(
    repository: Path, server: str, monkeypatch: pytest.MonkeyPatch, run: Run, endpoint: str, message: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint.format(server=server))
    report, code = findings(run)
    assert code == 0
    assert report["hub"][0] == "warning"
    assert message in report["hub"][1]


def test_services_out_of_reach(repository: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    subprocess.run([*DVC, "remote", "add", "--quiet", "--default", "far", "http://127.0.0.1:9/cache"], check=True)
    report, code = findings(run)
    assert code == 0
    assert report["MLflow"][0] == "warning"
    assert "tauflow track" in report["MLflow"][1]
    assert report["DVC remote"][0] == "warning"
    assert report["DVC remote"][1].startswith("far: ")


def test_a_remote_and_a_store_that_answer(repository: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{repository / 'other.db'}")
    subprocess.run([*DVC, "remote", "add", "--quiet", "--default", "near", str(repository / "remote")], check=True)
    report, _ = findings(run)
    assert report["MLflow"][0] == "ok"
    assert "other.db" in report["MLflow"][1]
    assert report["DVC remote"][0] == "ok"
    assert report["DVC remote"][1] == "near, nothing there yet"
    (repository / "remote" / "files" / "md5").mkdir(parents=True)
    report, _ = findings(run)
    assert report["DVC remote"] == ["ok", f"near, {repository / 'remote' / 'files' / 'md5'}"]


@pytest.mark.parametrize("key", ["user.name", "user.email"])
def test_git_without_an_identity(key: str, repository: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """Git would make one up of the login and the host, or refuse; `dvc exp run` refuses."""
    for variable in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    subprocess.run(["git", "config", "--unset", key], check=True)
    report, code = findings(run)
    assert code == 0
    assert report["git"][0] == "warning"
    assert "no identity; `git config --global user.name" in report["git"][1]


def test_a_deleted_experiment(repository: Path, run: Run) -> None:
    client = MlflowClient(tracking_uri())
    client.delete_experiment(client.create_experiment("tiny"))
    report, code = findings(run)
    assert code == 0
    assert report["MLflow"][0] == "warning"
    assert "experiment 'tiny' is deleted; bring it back with `mlflow experiments restore -x 1`" in report["MLflow"][1]


def test_a_store_that_cannot_be_opened(repository: Path, run: Run) -> None:
    (repository / "mlflow.db").mkdir()
    report, _ = findings(run)
    assert report["MLflow"][0] == "warning"
    assert "mlflow.db: unable to open database file" in report["MLflow"][1]


def test_servers_that_never_answer(repository: Path, silent: str, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """Each is waited for once, briefly, and the hub meanwhile."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", silent)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "7")
    monkeypatch.setenv("HF_ENDPOINT", silent)
    subprocess.run([*DVC, "remote", "add", "--quiet", "--default", "far", f"{silent}/cache"], check=True)
    began = time.monotonic()
    report, code = findings(run)
    assert code == 0
    assert {subject: status for subject, (status, _) in report.items() if status != "ok"} == dict.fromkeys(
        ("DVC remote", "MLflow", "hub"), "warning"
    )
    assert time.monotonic() - began < 18
