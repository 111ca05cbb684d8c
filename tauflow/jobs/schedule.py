"""Run a queue of jobs on workers of any kind. Independent of DVC and Ray, so that it can be simulated."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from tauflow.jobs.queue import Job, Queue, Status


@dataclass(frozen=True)
class JobResult:
    """The status with which a job ended, its duration, and the error if it failed."""

    status: Status
    seconds: float = 0.0
    error: str | None = None


class Workers(Protocol):
    """Workers that run jobs."""

    def start(self, job: Job) -> None:
        """Submit a job."""
        ...

    def wait(self) -> Mapping[str, JobResult]:
        """Wait briefly, and return the results of jobs that have ended, by name."""
        ...


class Listener(Protocol):
    """A listener for what happens to jobs."""

    def started(self, stage: str) -> None:
        """Take note that a job may have started, or started again."""
        ...

    def end(self, stage: str, result: JobResult) -> None:
        """Take note that a job ended."""
        ...

    def skip(self, stage: str, failed: str) -> None:
        """Take note that a job is skipped because another failed."""
        ...


def run_jobs(queue: Queue, workers: Workers, listener: Listener, check_interruption: Callable[[], None]) -> None:
    """Run the jobs of a queue until each has ended or is skipped.

    A second result of a job, such as that of a worker taken for dead, is ignored: the first one counts.
    """
    while not queue.finished:
        check_interruption()
        for job in queue.start():
            workers.start(job)
        for name, result in workers.wait().items():
            if name not in queue.running:
                continue
            listener.end(name, result)
            for skipped in queue.end(name, result.status):
                listener.skip(skipped, name)
        for name in queue.running:
            listener.started(name)
