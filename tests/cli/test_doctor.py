"""``tauflow doctor`` where something is wrong, against real servers on this machine."""

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

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
    subprocess.run([*DVC, "init", "--quiet"], check=True)
    for package in ("HF_HUB_OFFLINE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(package, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", f"{server}/404")
    Path("requirements.lock").write_text(f"torch=={metadata.version('torch')} \\\n    --hash=sha256:00\n    # via x\n")
    return project


def findings(run: Run) -> tuple[dict[str, list[str]], int]:
    """Of every subject status and text, and the exit code."""
    result = run("doctor")
    lines = [line.split(None, 1) for line in result.output.splitlines()]
    return {text.partition(":")[0]: [status, text.partition(": ")[2]] for status, text in lines}, result.exit_code


def test_all_is_well(repository: Path, run: Run) -> None:
    found, code = findings(run)
    assert code == 0
    assert {subject: status for subject, (status, _) in found.items() if status != "ok"} == {}
    assert list(found) == [
        "Python", "packages", "torch", "disk", "git", "parameters", "DVC", "DVC remote", "MLflow", "hub",
    ]  # fmt: skip
    assert found["packages"][1] == "all 1 of requirements.lock"
    assert not (repository / "mlflow.db").exists()


def test_outside_a_repository(project: Path, server: str, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    Path("params.yaml").write_text("seed: 0\nlr: 1\n")
    monkeypatch.setenv("HF_ENDPOINT", f"{server}/200")
    found, code = findings(run)
    assert code == 1
    errors = {subject: text for subject, (status, text) in found.items() if status == "error"}
    assert set(errors) == {"git", "parameters", "DVC"}
    assert "run from its root" in errors["DVC"]
    assert "unknown key 'lr'" in errors["parameters"]
    assert found["packages"] == ["warning", "no requirements.lock here; run from the root of the repository"]


def test_packages_that_the_lock_does_not_have(repository: Path, run: Run) -> None:
    lines = ["torch==0.1 \\", "no-such-package==1.0 \\", "only-there==1 ; sys_platform == 'amiga' \\"]
    Path("requirements.lock").write_text("\n".join(lines))
    found, code = findings(run)
    assert code == 0
    status, text = found["packages"]
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
    found, code = findings(run)
    assert code == 0
    assert found["hub"][0] == "warning"
    assert message in found["hub"][1]


def test_services_out_of_reach(repository: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    subprocess.run([*DVC, "remote", "add", "--quiet", "--default", "far", "http://127.0.0.1:9/cache"], check=True)
    found, code = findings(run)
    assert code == 0
    assert found["MLflow"][0] == "warning"
    assert "tauflow track" in found["MLflow"][1]
    assert found["DVC remote"][0] == "warning"
    assert found["DVC remote"][1].startswith("far: ")


def test_a_remote_and_a_store_that_answer(repository: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{repository / 'other.db'}")
    subprocess.run([*DVC, "remote", "add", "--quiet", "--default", "near", str(repository / "remote")], check=True)
    found, _ = findings(run)
    assert found["MLflow"][0] == "ok"
    assert "other.db" in found["MLflow"][1]
    assert found["DVC remote"][0] == "ok"
    assert found["DVC remote"][1] == "near, nothing there yet"
    (repository / "remote" / "files" / "md5").mkdir(parents=True)
    found, _ = findings(run)
    assert found["DVC remote"] == ["ok", f"near, {repository / 'remote' / 'files' / 'md5'}"]
