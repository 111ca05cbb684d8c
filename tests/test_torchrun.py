"""A stage on two real processes: one journal, the first process's; an error of any process ends the stage."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from artifacts.workspace import journals
from pipeline.errors import UserError
from tauflow.running.stage import run_stage
from tauflow.running.torchrun import is_worker, run_on_processes

ROOT = Path(__file__).parents[1]

# Processes that wait for each other do so for ever.
pytestmark = pytest.mark.timeout(360)

# A stage that starts itself on two processes, as those that train do.
DEMO = """
import os
import torch
from pathlib import Path
from pipeline.errors import UserError
from pipeline.training.processes import joined
from tauflow.running.stage import run_stage
from tauflow.running.torchrun import is_worker

with run_stage() as stage, joined() as processes:
    rank = processes.rank
    assert is_worker()
    stage.journal.metrics({"rank": float(rank), "sum": processes.total(torch.tensor(rank + 1.0)).item()}, 7)
    Path(f"worker_{rank}").write_text(stage.name)
    if stage.keys("way") == ("fails",):
        raise UserError(f"process {rank} is unhappy")
    if stage.keys("way") == ("breaks",):
        print(rank / 0)
"""


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_tracker: None, study_parameters: Path) -> Path:
    """A directory with the parameters and a stage of its own, which hides those of the repository."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "__init__.py").touch()
    (tmp_path / "stages" / "demo.py").write_text(DEMO)
    (tmp_path / "dvc.yaml").write_text("stages: {demo: {matrix: {way: [works, fails, breaks]}, cmd: none}}")
    shutil.copy(study_parameters, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for variable in ("DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "RANK", "TAUFLOW_JOURNAL"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def events() -> list[dict[str, Any]]:
    (path,) = journals().glob("*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_processes_share_the_journal_of_their_stage(workspace: Path) -> None:
    """One start, one end, and the metrics of the first process."""
    with run_stage("demo@works") as stage:
        assert not is_worker()
        run_on_processes(2, "stages.demo", stage.name, stage.journal)
    start, metrics, seconds, end = events()
    assert start["name"] == "demo@works"
    assert start["pid"] == os.getpid()
    assert (metrics["step"], metrics["values"]) == (7, {"rank": 0.0, "sum": 3.0})
    assert seconds["values"].keys() == {"seconds"}
    assert end["status"] == "FINISHED"
    assert [(workspace / f"worker_{rank}").read_text() for rank in range(2)] == ["demo@works"] * 2


def test_an_error_of_a_process_ends_the_stage(workspace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In one line, though both processes fail."""
    with pytest.raises(SystemExit) as exit_, run_stage("demo@fails") as stage:
        run_on_processes(2, "stages.demo", stage.name, stage.journal)
    assert exit_.value.code == 1
    errors = capfd.readouterr().err
    assert re.fullmatch(r"error: demo@fails: process ([01]) of 2 failed: process \1 is unhappy\n", errors), errors
    assert [event["event"] for event in events()] == ["start", "metrics", "end"]
    assert events()[-1]["status"] == "FAILED"


def test_a_traceback_of_a_process_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    """Check an error that is not the user's mistake."""
    with pytest.raises(SystemExit), run_stage("demo@breaks") as stage:
        run_on_processes(2, "stages.demo", stage.name, stage.journal)
    errors = capfd.readouterr().err
    assert "ZeroDivisionError" in errors
    assert re.search(r"error: demo@breaks: process [01] of 2 failed: exit code 1; the traceback is above\n$", errors)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_process_of_several_neither_opens_nor_ends_a_journal(
    rank: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the first appends its metrics, even if it fails."""
    shared = tmp_path / "shared.jsonl"
    shared.touch()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("TAUFLOW_JOURNAL", str(shared))
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))

    def stage() -> None:
        with run_stage("demo@works") as stage:
            stage.journal.metrics({"loss": 0.5}, 3)
            raise UserError("it failed")

    with pytest.raises(SystemExit):
        stage()
    assert capsys.readouterr().err == ""  # its launcher says it
    assert "it failed" in (tmp_path / "error.json").read_text()
    assert not journals().exists()
    events = [json.loads(line) for line in shared.read_text().splitlines()]
    assert [(event["event"], event["values"]) for event in events] == [("metrics", {"loss": 0.5})] * (rank == "0")
