"""The schedule of stages that run at once, without a cluster; logs; what an attempt leaves behind."""

import json
import os
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo

from pipeline.errors import UserError
from tauflow import attempt, cluster, stage
from tauflow.logs import STARTED, attempts, error_line, log_file
from tauflow.parallel import Fate, Schedule, Task, chains
from tauflow.scale_out import Options


def graph(needs: dict[str, str], gpu: str = "") -> dict[str, Task]:
    """Tasks called by single letters."""
    return {name: Task(name, frozenset(of), name in gpu) for name, of in needs.items()}


def names(tasks: list[Task]) -> str:
    return "".join(task.name for task in tasks)


def test_a_task_starts_when_what_it_needs_is_done() -> None:
    schedule = Schedule(graph({"a": "", "b": "a", "c": "ab", "d": ""}), 4, 1)
    assert names(schedule.start()) == "ad"
    assert names(schedule.start()) == ""
    assert schedule.end("a", Fate.RAN) == []
    assert names(schedule.start()) == "b"
    schedule.end("d", Fate.UNCHANGED)
    schedule.end("b", Fate.RESTORED)
    assert names(schedule.start()) == "c"
    assert not schedule.finished
    schedule.end("c", Fate.RAN)
    assert schedule.finished


def test_no_more_run_than_there_are_slots_and_gpus() -> None:
    schedule = Schedule(graph(dict.fromkeys("abcdef", ""), gpu="abce"), 3, 2)
    assert names(schedule.start()) == "abd"
    schedule.end("d", Fate.RAN)
    assert names(schedule.start()) == "f"
    schedule.end("a", Fate.RAN)
    assert names(schedule.start()) == "c"
    schedule.end("f", Fate.RAN)
    assert names(schedule.start()) == ""  # e needs a GPU


def test_what_most_waits_for_starts_first() -> None:
    tasks = graph({"a": "", "b": "", "c": "b", "d": "c"})
    assert chains(tasks) == {"a": 0, "b": 2, "c": 1, "d": 0}
    assert names(Schedule(tasks, 1, 0).start()) == "b"


def test_a_failure_skips_its_dependants_alone() -> None:
    schedule = Schedule(graph({"a": "", "b": "a", "c": "b", "d": "", "e": "d"}), 1, 1)
    assert names(schedule.start()) == "a"
    assert schedule.end("a", Fate.FAILED) == ["b", "c"]
    assert names(schedule.start()) == "d"
    schedule.end("d", Fate.RAN)
    assert names(schedule.start()) == "e"
    schedule.end("e", Fate.RAN)
    assert schedule.finished
    assert schedule.fates["c"] is Fate.SKIPPED


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            "Running stage 'a':\n> x\nerror: a: none\nwarning: kept\nERROR: failed to reproduce 'a'",
            "error: a: no",
        ),
        ("Running stage 'a':\n> x\nTraceback\nValueError: 3\nERROR: failed to reproduce 'a'", "ValueError: 3"),
        ("Running stage 'a':\n> false\nERROR: failed to reproduce 'a': exited with 1", "ERROR: failed to reproduce"),
    ],
)
def test_the_line_that_says_why_a_stage_failed(said: str, line: str) -> None:
    assert (error_line(said) or "").startswith(line)


def test_the_attempts_at_a_stage_are_read_from_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert attempts("sub/dvc.yaml:a") == []
    log_file("sub/dvc.yaml:a").parent.mkdir(parents=True)
    log_file("sub/dvc.yaml:a").write_text(f"{STARTED}1f GPU 0\noutput\n{STARTED}2e\n")
    assert attempts("sub/dvc.yaml:a") == ["1f GPU 0", "2e"]


def test_what_a_killed_attempt_held_is_forgotten_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    dead = {"pid": os.getpid(), "cmd": "tauflow.attempt train@a"}  # a number that lives: of another process
    other = {"pid": os.getpid(), "cmd": "tauflow.attempt train@ab"}
    path = Path(".dvc", "tmp", "rwlock")
    path.write_text(json.dumps({"write": {"/x": dead, "/y": other}, "read": {"/i": [dead, other], "/j": [dead]}}))
    attempt.forget_dead("train@a")
    assert json.loads(path.read_text()) == {"write": {"/y": other}, "read": {"/i": [other]}}


def test_the_options_of_dvc_repro_that_make_no_sense_are_refused() -> None:
    options = Options(2, None, None, ("report", "-f"))
    assert options.force
    assert options.targets == ["report"]
    with pytest.raises(UserError, match="--downstream"):
        _ = Options(2, None, None, ("--downstream", "report")).targets


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'tauflow\[cluster\]'"):
        cluster.check_installed()


def test_all_stages_of_a_command_belong_to_one_parent_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(stage.INVOCATION, "tauflow repro --jobs, yesterday")
    assert stage._invocation() == ("tauflow repro --jobs, yesterday",) * 2
    monkeypatch.delenv(stage.INVOCATION)
    assert stage._invocation() != ("tauflow repro --jobs, yesterday",) * 2
