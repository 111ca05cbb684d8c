"""The queue of stages that run at once, without a cluster; logs; entries left by a killed attempt."""

import json
import os
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo

from pipeline.errors import UserError
from tauflow.jobs import attempt, cluster
from tauflow.jobs.queue import Job, Queue, Status, chain_lengths
from tauflow.jobs.repro import ReproOptions
from tauflow.running import stage
from tauflow.tracking.attempts import STARTED, attempts, error_line, log_file


def graph(needs: dict[str, str], gpu: str = "") -> dict[str, Job]:
    """Jobs called by single letters."""
    return {name: Job(name, frozenset(needed), name in gpu) for name, needed in needs.items()}


def names(jobs: list[Job]) -> str:
    return "".join(job.name for job in jobs)


def test_a_job_starts_when_its_dependencies_are_done() -> None:
    queue = Queue(graph({"a": "", "b": "a", "c": "ab", "d": ""}), 4, 1)
    assert names(queue.start()) == "ad"
    assert names(queue.start()) == ""
    assert queue.end("a", Status.RAN) == []
    assert names(queue.start()) == "b"
    queue.end("d", Status.UNCHANGED)
    queue.end("b", Status.RESTORED)
    assert names(queue.start()) == "c"
    assert not queue.finished
    queue.end("c", Status.RAN)
    assert queue.finished


def test_running_jobs_are_limited_by_slots_and_gpus() -> None:
    queue = Queue(graph(dict.fromkeys("abcdef", ""), gpu="abce"), 3, 2)
    assert names(queue.start()) == "abd"
    queue.end("d", Status.RAN)
    assert names(queue.start()) == "f"
    queue.end("a", Status.RAN)
    assert names(queue.start()) == "c"
    queue.end("f", Status.RAN)
    assert names(queue.start()) == ""  # e needs a GPU


def test_the_job_with_the_longest_chain_starts_first() -> None:
    jobs = graph({"a": "", "b": "", "c": "b", "d": "c"})
    assert chain_lengths(jobs) == {"a": 0, "b": 2, "c": 1, "d": 0}
    assert names(Queue(jobs, 1, 0).start()) == "b"


def test_a_failure_skips_only_its_dependants() -> None:
    queue = Queue(graph({"a": "", "b": "a", "c": "b", "d": "", "e": "d"}), 1, 1)
    assert names(queue.start()) == "a"
    assert queue.end("a", Status.FAILED) == ["b", "c"]
    assert names(queue.start()) == "d"
    queue.end("d", Status.RAN)
    assert names(queue.start()) == "e"
    queue.end("e", Status.RAN)
    assert queue.finished
    assert queue.statuses["c"] is Status.SKIPPED


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (
            "Running stage 'a':\n> x\nerror: a: none\nwarning: kept\nERROR: failed to reproduce 'a'",
            "error: a: no",
        ),
        ("Running stage 'a':\n> x\nTraceback\nValueError: 3\nERROR: failed to reproduce 'a'", "ValueError: 3"),
        ("Running stage 'a':\n> false\nERROR: failed to reproduce 'a': exited with 1", "ERROR: failed to reproduce"),
    ],
)
def test_the_error_line_of_a_failed_stage(output: str, line: str) -> None:
    assert (error_line(output) or "").startswith(line)


def test_the_attempts_at_a_stage_are_read_from_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert attempts("sub/dvc.yaml:a") == []
    log_file("sub/dvc.yaml:a").parent.mkdir(parents=True)
    log_file("sub/dvc.yaml:a").write_text(f"{STARTED}1f GPU 0\noutput\n{STARTED}2e\n")
    assert attempts("sub/dvc.yaml:a") == ["1f GPU 0", "2e"]


def test_only_entries_of_the_killed_attempt_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    dead = {"pid": os.getpid(), "cmd": "tauflow.jobs.attempt train@a"}  # the ID of a running process, but another one
    other = {"pid": os.getpid(), "cmd": "tauflow.jobs.attempt train@ab"}
    path = Path(".dvc", "tmp", "rwlock")
    path.write_text(json.dumps({"write": {"/x": dead, "/y": other}, "read": {"/i": [dead, other], "/j": [dead]}}))
    attempt.remove_stale_entries("train@a")
    assert json.loads(path.read_text()) == {"write": {"/y": other}, "read": {"/i": [other]}}


def test_unsupported_options_of_dvc_repro_are_refused() -> None:
    options = ReproOptions(2, None, None, ("report", "-f"))
    assert options.force
    assert options.targets == ["report"]
    with pytest.raises(UserError, match="--downstream"):
        _ = ReproOptions(2, None, None, ("--downstream", "report")).targets


def test_a_missing_ray_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install ray"):
        cluster.check_installed()


def test_all_stages_of_a_command_belong_to_one_parent_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(stage.INVOCATION, "tauflow repro --jobs, yesterday")
    assert stage._invocation(None) == ("tauflow repro --jobs, yesterday",) * 2
    monkeypatch.delenv(stage.INVOCATION)
    assert stage._invocation(None) != ("tauflow repro --jobs, yesterday",) * 2
