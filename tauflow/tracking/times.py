"""Times of stages and of the processes around them: a line for each stage instance that ended, kept over all runs.

A stage appends its line when it ends; the tracker appends its own whenever it has logged a run to its end.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from artifacts.workspace import home

TRACKER = "tracker"


@dataclass(frozen=True)
class ProcessCost:
    """A process: its identity, when it began (seconds since the epoch), and the seconds of CPU that it has used."""

    identity: str
    began: float
    cpu: float


@dataclass(frozen=True)
class StageTime:
    """The time of a stage instance that ended; durations are in seconds, points in time in seconds since the epoch.

    imports, imports_cpu: time until its parameters were read: starting Python and importing.
    cpu: of its process and those that it started, imports included.
    dvc: the process of DVC that ran it, with the CPU that it had used by then.
    """

    stage: str
    suite: str
    status: str
    invocation: str
    began: float
    imports: float
    seconds: float
    imports_cpu: float
    cpu: float
    dvc: ProcessCost | None = None

    @property
    def kind(self) -> str:
        """The entry of ``dvc.yaml``."""
        return self.stage.partition("@")[0]

    @property
    def ended(self) -> float:
        """When it ended."""
        return self.began + self.seconds


@dataclass(frozen=True)
class Overhead:
    """DVC's time for a stage: from the end of the stage before it, or from the start of DVC, to its own start."""

    seconds: float = 0.0
    cpu: float = 0.0


def times_file() -> Path:
    """Return the file of all times."""
    return home() / ".tauflow" / "times.jsonl"


def process_cost(process: psutil.Process, children: bool = False) -> ProcessCost:
    """Return the cost of a process so far, with or without the children that it has waited for."""
    used = process.cpu_times()
    of_children = used.children_user + used.children_system if children else 0.0
    return ProcessCost(
        f"{process.pid} {process.create_time()}", time.time() - _age(process), used.user + used.system + of_children
    )


def _age(process: psutil.Process) -> float:
    """Return the seconds since a process was started.

    psutil knows the boot time of a Linux system only to the second.
    """
    if sys.platform != "linux":
        return time.time() - process.create_time()
    fields = Path("/proc", str(process.pid), "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def record(entry: StageTime | ProcessCost) -> None:
    """Append a line; one that cannot be written is left out, since a stage's result does not depend on it."""
    kind = "stage" if isinstance(entry, StageTime) else TRACKER
    try:
        with times_file().open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **asdict(entry)}) + "\n")
    except OSError as error:
        print(f"warning: {times_file()}: {error.strerror}; the time is not recorded", file=sys.stderr)


def read_times(path: Path | None = None) -> tuple[list[StageTime], list[ProcessCost]]:
    """Return the times of all stages that ended and of all trackers, in the order in which they were written."""
    stages: list[StageTime] = []
    trackers: dict[str, ProcessCost] = {}  # the last line of each counts
    for content in _lines(path or times_file()):
        try:
            if content.pop("kind") == "stage":
                dvc = content.pop("dvc")
                stages.append(StageTime(**content, dvc=dvc and ProcessCost(**dvc)))
            else:
                cost = ProcessCost(**content)
                trackers[cost.identity] = cost
        except (TypeError, KeyError):  # of another version
            continue
    return stages, list(trackers.values())


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                content = json.loads(line)
            except ValueError:  # half a line of a stage that was killed
                continue
            if isinstance(content, dict):
                yield content


def overheads(times: Sequence[StageTime]) -> dict[StageTime, Overhead]:
    """Return the time that DVC took for each stage that it ran."""
    by_process: dict[str, list[StageTime]] = {}
    for stage in times:
        if stage.dvc:
            by_process.setdefault(stage.dvc.identity, []).append(stage)
    gaps = {}
    for stages in by_process.values():
        ordered = sorted(stages, key=lambda stage: stage.began)
        first = ordered[0]
        assert first.dvc
        gaps[first] = Overhead(max(first.began - first.dvc.began, 0.0), first.dvc.cpu)
        for before, after in pairwise(ordered):
            assert before.dvc
            assert after.dvc
            gaps[after] = Overhead(max(after.began - before.ended, 0.0), after.dvc.cpu - before.dvc.cpu)
    return gaps


def latest(times: Sequence[StageTime], suite: str) -> dict[str, StageTime]:
    """Return the latest time of each finished stage instance of a suite."""
    return {stage.stage: stage for stage in times if stage.suite == suite and stage.status == "FINISHED"}


@dataclass(frozen=True)
class Stopwatch:
    """The time of a running stage: begin it when the stage's parameters are known.

    Args:
        client: the process that DVC started, if this one was forked in its place.
    """

    unfinished: StageTime
    process: psutil.Process
    client_cpu: float
    dvc: psutil.Process | None

    @classmethod
    def begin(
        cls, stage: str, suite: str, invocation: str, client: psutil.Process | None, dvc: psutil.Process | None
    ) -> "Stopwatch":
        """Begin to measure a stage, from the start of its process."""
        process = psutil.Process()
        first = process_cost(client or process)
        client_cpu = first.cpu if client else 0.0
        cpu = client_cpu + process_cost(process, children=True).cpu
        imports = time.time() - first.began
        time_so_far = StageTime(stage, suite, "RUNNING", invocation, first.began, imports, imports, cpu, cpu)
        return cls(time_so_far, process, client_cpu, dvc)

    def end(self, status: str) -> StageTime:
        """Return the time of the stage that ends now."""
        return replace(
            self.unfinished,
            status=status,
            seconds=time.time() - self.unfinished.began,
            cpu=self.client_cpu + process_cost(self.process, children=True).cpu,
            dvc=self._dvc(),
        )

    def _dvc(self) -> ProcessCost | None:
        try:
            return process_cost(self.dvc) if self.dvc else None
        except (psutil.Error, OSError):  # it has ended: the stage runs by hand, or DVC was killed
            return None
