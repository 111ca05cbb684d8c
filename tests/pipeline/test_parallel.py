"""``tauflow repro --jobs`` on a Ray cluster of two nodes on this machine, with simulated GPUs."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from tauflow.dvc.composition import compose
from tauflow.tracking.attempts import STARTED
from tests.pipeline.conftest import ROOT, Project, copy_project

pytestmark = pytest.mark.pipeline

TAUFLOW = (sys.executable, "-m", "tauflow.cli")
FINETUNE = "finetune@mini-clip-textures-standard"
CHECKPOINT = "data/checkpoints/mini-clip/standard/textures.safetensors"

# Four stages that note when and where they ran, one that fails, what waits for it, and what does not.
STAGES = """
stages:
  lease:
    matrix:
      i: [0, 1, 2, 3]
    cmd: python lease.py lease${item.i}.json
    params: [device]
    outs: [{"lease${item.i}.json": {cache: false}}]
  plain:
    cmd: python lease.py plain.json
    outs: [{plain.json: {cache: false}}]
  wrong:
    cmd: python -c "import sys; sys.exit('the wrong file')"
    deps: [plain.json]
    outs: [wrong.txt]
  waits:
    cmd: cp wrong.txt waits.txt
    deps: [wrong.txt]
    outs: [waits.txt]
  together:
    cmd: cat lease0.json lease1.json lease2.json lease3.json > together.txt
    deps: [lease0.json, lease1.json, lease2.json, lease3.json]
    outs: [{together.txt: {cache: false}}]
"""
LEASE = """
import json, os, sys, time
began = time.time()
time.sleep(1.5)
seen = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "TAUFLOW_INVOCATION")}
open(sys.argv[1], "w").write(json.dumps({"began": began, "ended": time.time(), **seen}) + "\\n")
"""
# Two stages that run until their metrics are seen in MLflow.
WATCHED = """
stages:
  watched:
    matrix:
      i: [0, 1]
    cmd: python watched.py ${item.i}
    outs: [{"watched${item.i}": {cache: false}}]
"""
WATCHED_STAGE = """
import os, sys, time
from pathlib import Path
from tauflow.tracking.journal import Journal

name, invocation = f"watched@{sys.argv[1]}", os.environ["TAUFLOW_INVOCATION"]
about = {"name": name, "root": str(Path.cwd()), "suite": "tiny", "params": {}, "tags": {"dvc.stage": name}}
journal = Journal.open(
    **about, invocation=invocation, invocation_name=invocation, invocation_tags={}, revision=None
)
journal.metrics({"loss": 0.5}, 3)
deadline = time.monotonic() + 240
while not Path("seen").exists() and time.monotonic() < deadline:
    time.sleep(0.1)
Path(f"watched{sys.argv[1]}").write_text(str(Path("seen").exists()))
journal.append("end", status="FINISHED", error=None)
"""


@dataclass(frozen=True)
class Ray:
    """A running cluster: its address, and the environment of those who may use it."""

    address: str
    environment: dict[str, str]

    def repro(self, project: Project, *arguments: str, check: bool = True) -> str:
        """``tauflow repro --jobs 4`` there; returns what it says."""
        command = [*TAUFLOW, "repro", "--jobs", "4", "--address", self.address, *arguments]
        result = project.run(*command, check=check, **self.environment)
        assert check or result.returncode == 1
        return result.stdout + result.stderr


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Ray]:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        **token,
    }
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("ray_cluster.py"))],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout
        assert process.stdin
        yield Ray(process.stdout.readline().strip(), environment)
        process.stdin.close()


@pytest.fixture
def naps(tmp_path: Path) -> Project:
    """A repository with trivial stages."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    compose(tmp_path, ["suite=tiny"])
    (tmp_path / "dvc.yaml").write_text(STAGES)
    (tmp_path / "lease.py").write_text(LEASE)
    project = Project(tmp_path)
    project.run("git", "init", "--quiet", ".")
    project.run("dvc", "init", "--quiet")
    return project


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def log(project: Project, stage: str) -> str:
    return (project.root / ".tauflow" / "logs" / f"{stage}.log").read_text()


def in_use(project: Project) -> dict[str, object]:
    """DVC's list of files in use."""
    used = json.loads((project.root / ".dvc" / "tmp" / "rwlock").read_text())
    return {kind: paths for kind, paths in used.items() if paths}


def processes(project: Project, word: str) -> list[psutil.Process]:
    """Processes in the project with a word in their command line."""
    pids = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(project.root) and any(word in part for part in process.cmdline()):
                pids.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return pids


def test_gpus_are_leased_to_one_stage_at_a_time_and_a_failure_stops_only_what_waits_for_it(
    naps: Project, ray_cluster: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    output = ray_cluster.repro(naps, check=False)
    ran = {path.stem: json.loads(path.read_text()) for path in naps.root.glob("*.json")}
    leases: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for stage in ("lease@0", "lease@1", "lease@2", "lease@3"):
        entry, line = ran[stage.replace("@", "")], log(naps, stage).splitlines()[0]
        node, _, gpu = line.removeprefix(STARTED).partition(" GPU ")
        assert entry["CUDA_VISIBLE_DEVICES"] == gpu == "0"
        leases.setdefault((node, gpu), []).append((entry["began"], entry["ended"]))
    assert len(leases) == 2  # both nodes
    for times in map(sorted, leases.values()):
        assert all(ended <= began for (_, ended), (began, _) in pairwise(times))
    assert ran["plain"]["CUDA_VISIBLE_DEVICES"] == os.environ.get("CUDA_VISIBLE_DEVICES")
    assert {entry["OMP_NUM_THREADS"] for entry in ran.values()} == {None}  # Ray sets it in its workers
    assert len({entry["TAUFLOW_INVOCATION"] for entry in ran.values()}) == 1
    assert "6 ran, 1 failed, 1 skipped" in output
    assert "waits  skipped: wrong failed" in output
    assert "the wrong file" in output
    assert ".tauflow/logs/wrong.log" in output
    assert in_use(naps) == {}

    (naps.root / "dvc.yaml").write_text(STAGES.replace("sys.exit('the wrong file')", "open('wrong.txt', 'w')"))
    assert "2 ran, 6 up to date" in ray_cluster.repro(naps)
    assert "All 8 stages are up to date" in ray_cluster.repro(naps)
    assert naps.repro() == []


def test_a_chain_of_stages_gives_the_bytes_of_a_serial_run(
    reproduced: Project, ray_cluster: Ray, tmp_path: Path
) -> None:
    project = copy_project(tmp_path / "parallel")
    target = "addition@mini-clip-standard"
    ray_cluster.repro(project, target)
    lock, expected = project.lock(), reproduced.lock()
    assert {name.split("@")[0] for name in lock} == {
        *("download", "prepare", "pretrained", "head", "finetune", "task_vector", "single_task", "alpha_search"),
        "addition",
    }
    assert lock == {name: entry for name, entry in expected.items() if name in lock}
    for item in (item for entry in lock.values() for item in entry["outs"]):
        path = Path(item["path"])
        files = [path] if (project.root / path).is_file() else _files(project, path)
        assert files == ([path] if (reproduced.root / path).is_file() else _files(reproduced, path))
        for file in files:
            assert (project.root / file).read_bytes() == (reproduced.root / file).read_bytes(), file
    assert project.repro(target) == []


def test_a_fine_tuning_whose_worker_is_killed_is_started_again_and_resumes(
    clone: Project, ray_cluster: Ray, tmp_path: Path
) -> None:
    clone.set_parameter("epochs.textures", 20)
    serial = Project(tmp_path / "serial")
    shutil.copytree(clone.root, serial.root, symlinks=True)
    with _Running(clone, "--address", ray_cluster.address, FINETUNE, environment=ray_cluster.environment) as running:
        running.wait_until_trained()
        (worker,) = processes(clone, "ray::")
        worker.kill()
        assert running.end() == 0
    output = log(clone, FINETUNE)
    assert output.count(STARTED) == 2
    assert "of them before it was resumed" in output
    assert "again on" in running.output
    serial.repro("--single-item", FINETUNE)
    assert (clone.root / CHECKPOINT).read_bytes() == (serial.root / CHECKPOINT).read_bytes()
    assert clone.lock() == serial.lock()
    assert in_use(clone) == {}


def test_what_runs_on_any_node_is_seen_in_mlflow_meanwhile(naps: Project, ray_cluster: Ray) -> None:
    (naps.root / "dvc.yaml").write_text(WATCHED)
    (naps.root / "watched.py").write_text(WATCHED_STAGE)
    environment = {**ray_cluster.environment, "TAUFLOW_TRACKER": "on"}
    journal = naps.root / ".tauflow" / "journal"

    def runs() -> dict[str, tuple[str, float | None]]:
        client = MlflowClient(f"sqlite:///{naps.root / 'mlflow.db'}")
        actual = [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]
        return {r.info.run_name or "": (r.info.status, r.data.metrics["loss"]) for r in actual if r.data.metrics}

    with _Running(naps, "--address", ray_cluster.address, environment=environment) as running:
        # Not asked before the tracker has made the store.
        wait_for(lambda: sum('"metrics"' in file.read_text() for file in journal.glob("*.progress")) == 2, 240)
        assert runs() == {f"watched@{i}": ("RUNNING", 0.5) for i in (0, 1)}
        (naps.root / "seen").touch()
        assert running.end() == 0, running.output
    assert runs() == {f"watched@{i}": ("FINISHED", 0.5) for i in (0, 1)}
    assert [(naps.root / f"watched{i}").read_text() for i in (0, 1)] == ["True", "True"]
    assert list(journal.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_after_a_stopped_command_dvc_repro_goes_on(clone: Project, number: signal.Signals) -> None:
    clone.set_parameter("epochs.textures", 100)  # long enough to be stopped before it ends, on a busy machine too
    with _Running(clone, FINETUNE) as running:
        running.wait_until_trained()
        assert {process.nice() for process in processes(clone, "tauflow.")} == {0}
        running.stop(number)
        code = running.end()
    if number == signal.SIGINT:
        assert code == 130
        assert "the same command continues" in running.output
        assert processes(clone, "stages.finetune") == []
        assert in_use(clone) == {}
    wait_for(lambda: not processes(clone, "tauflow.") and not processes(clone, "stages."))
    result = clone.run("dvc", "repro", "--single-item", FINETUNE)
    assert "of them before it was resumed" in result.stdout


def test_without_ray_one_line_says_what_to_install(naps: Project) -> None:
    code = "import sys; sys.modules['ray'] = None; from tauflow.cli import app; app()"
    result = naps.run(sys.executable, "-c", code, "repro", "--jobs", "2", check=False)
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert line == "error: --jobs needs Ray, which is not installed; run `pip install ray`"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jobs", "2", "--address", "127.0.0.1:1"], "no Ray cluster to use"),
        (["--jobs", "2", "nowhere"], "'nowhere' not found"),
        (["--jobs", "2", "--pull"], "--pull: with --jobs only stages and --force"),
        (["--address", "auto"], "need --jobs"),
    ],
)
def test_wrong_use_is_one_line(naps: Project, arguments: list[str], message: str) -> None:
    result = naps.run(*TAUFLOW, "repro", *arguments, check=False)
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line


class _Running:
    """A running ``tauflow repro --jobs 2``, in a process group of its own as a shell would start it."""

    def __init__(self, project: Project, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.project, self.output = project, ""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.process = subprocess.Popen(
            [*TAUFLOW, "repro", "--jobs", "2", *arguments],
            cwd=project.root,
            env={**os.environ, "PATH": path, "TAUFLOW_TRACKER": "off", **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )

    def __enter__(self) -> "_Running":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.end()

    def wait_until_trained(self) -> None:
        """Wait until the fine-tuning has saved something."""
        directory = self.project.root / ".tauflow" / "resume"
        wait_for(lambda: list(directory.glob("*.safetensors")) or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.communicate()[0]

    def stop(self, number: signal.Signals) -> None:
        """As Ctrl-C, which reaches the whole group, or as `kill -9` of the command alone."""
        if number == signal.SIGINT:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def end(self) -> int:
        """Wait for the end; returns the exit code."""
        self.output += self.process.communicate(timeout=300)[0]
        return self.process.returncode


def _files(project: Project, directory: Path) -> list[Path]:
    files = (project.root / directory).rglob("*")
    return sorted(path.relative_to(project.root) for path in files if path.is_file())
