"""Queue of the stages to run, in dependency order. Independent of DVC and Ray."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Status(StrEnum):
    """The status with which a job ended."""

    RAN = "ran"
    RESTORED = "restored from the run cache"
    UNCHANGED = "up to date"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def done(self) -> bool:
        """Return whether the stage's outputs are up to date."""
        return self in (Status.RAN, Status.RESTORED, Status.UNCHANGED)


@dataclass(frozen=True)
class Job:
    """A stage instance that may have to run after those it ``needs``; ``gpu``: whether it computes on the device."""

    name: str
    needs: frozenset[str] = frozenset()
    gpu: bool = False


@dataclass
class Queue:
    """Run at most ``slots`` jobs at once, at most ``gpu_slots`` of them on GPUs.

    Among the jobs that may start, those with the longest chain of waiting jobs start first.
    """

    jobs: Mapping[str, Job]
    slots: int
    gpu_slots: int
    running: set[str] = field(default_factory=set)
    statuses: dict[str, Status] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = chain_lengths(self.jobs)
        self._order = sorted(self.jobs, key=lambda name: -lengths[name])  # stable: ties keep DVC's order

    @property
    def finished(self) -> bool:
        """Return whether every job has ended or been skipped."""
        return len(self.statuses) == len(self.jobs)

    def start(self) -> list[Job]:
        """Return the jobs to start now, and mark them as running."""
        started = []
        gpus = self.gpu_slots - sum(self.jobs[name].gpu for name in self.running)
        for name in self._order:
            job = self.jobs[name]
            if len(self.running) == self.slots:
                break
            if self._may_start(job) and (gpus > 0 or not job.gpu):
                gpus -= job.gpu
                self.running.add(name)
                started.append(job)
        return started

    def end(self, name: str, status: Status) -> list[str]:
        """Mark a running job as ended; return the jobs that are skipped because it failed."""
        self.running.remove(name)
        self.statuses[name] = status
        return [] if status.done else self._skip_dependants(name)

    def _may_start(self, job: Job) -> bool:
        started = job.name in self.running or job.name in self.statuses
        return not started and all(name in self.statuses and self.statuses[name].done for name in job.needs)

    def _skip_dependants(self, failed: str) -> list[str]:
        skipped: list[str] = []
        for name, job in self.jobs.items():
            if name not in self.statuses and not job.needs.isdisjoint({failed, *skipped}):
                self.statuses[name] = Status.SKIPPED
                skipped.append(name)
        return skipped


def chain_lengths(jobs: Mapping[str, Job]) -> dict[str, int]:
    """Return the length of the longest chain of jobs that waits for each job; ``jobs`` are in topological order."""
    lengths = dict.fromkeys(jobs, 0)
    for name in reversed(list(jobs)):
        for needed in jobs[name].needs:
            lengths[needed] = max(lengths[needed], lengths[name] + 1)
    return lengths
