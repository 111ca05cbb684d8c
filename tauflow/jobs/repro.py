"""``tauflow repro --jobs N``: run the stages that DVC finds stale, several at once."""

import os
import platform
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape

from pipeline.errors import UserError
from tauflow.jobs.attempt import remove_stale_entries
from tauflow.jobs.cluster import Cluster, Command, check_installed, connect, gpu_slots, machine_names
from tauflow.jobs.dag import Dag, read_dag
from tauflow.jobs.queue import Queue, Status
from tauflow.jobs.schedule import JobResult, run_jobs
from tauflow.running.stage import INVOCATION
from tauflow.tracking.attempts import attempts, log_file, stage_lock
from tauflow.tracking.journal import TRACKER, tracker_running

FORCE = ("-f", "--force")


@dataclass(frozen=True)
class ReproOptions:
    """Options of the command line; ``arguments`` are those of `dvc repro`."""

    jobs: int
    gpus_per_stage: float | None
    address: str | None
    arguments: tuple[str, ...]

    @property
    def force(self) -> bool:
        """Return whether to run stages that are up to date as well."""
        return any(argument in FORCE for argument in self.arguments)

    @property
    def targets(self) -> list[str]:
        """Return the stages to run with their dependencies; empty for all.

        Raises:
            UserError: the arguments include an unsupported option of `dvc repro`.
        """
        others = [argument for argument in self.arguments if argument not in FORCE]
        for argument in others:
            if argument.startswith("-"):
                raise UserError(f"{argument}: with --jobs only stages and --force are supported; leave --jobs out")
        return others


@dataclass
class ProgressLog:
    """Print where each stage runs and how it ends, one line per event."""

    total: int
    console: Console
    machines: Mapping[str, str]
    errors: dict[str, str] = field(default_factory=dict)
    announced: dict[str, int] = field(default_factory=dict)
    ended: int = 0

    def started(self, stage: str) -> None:
        """Print where a stage started, or restarted because its worker died."""
        starts = attempts(stage)
        for number, where in enumerate(starts[self.announced.get(stage, 0) :], self.announced.get(stage, 0)):
            node, _, gpus = where.partition(" ")
            place = f"{self.machines.get(node, node[:6])}{f', {gpus}' if gpus else ''}"
            self._print(stage, f"again on {place}: its worker died" if number else f"on {place}")
        self.announced[stage] = len(starts)

    def end(self, stage: str, result: JobResult) -> None:
        """Print how a stage ended."""
        self.started(stage)
        self.ended += 1
        self._print(stage, f"{result.status} ({result.seconds:.1f} s)")
        if result.error:
            self.errors[stage] = result.error

    def skip(self, stage: str, failed: str) -> None:
        """Print that a stage is skipped."""
        self.ended += 1
        self._print(stage, f"skipped: {failed} failed")

    def _print(self, stage: str, event: str) -> None:
        width = len(str(self.total))
        self.console.print(
            f"[dim]{datetime.now():%H:%M:%S} {self.ended:{width}}/{self.total}[/dim]  {escape(stage)}  {escape(event)}",
            highlight=False,
            soft_wrap=True,
        )


def repro_in_parallel(options: ReproOptions) -> int:
    """Run the stale stages; return the exit code.

    Raises:
        UserError: an argument is wrong, or Ray is not available.
        KeyboardInterrupt: raised after all jobs have ended and released their locks.
    """
    check_installed()
    targets = options.targets
    # One tracker serves all machines; stages must not start their own.
    environment = {**os.environ, INVOCATION: _invocation(), TRACKER: "off"}
    command = Command(Path.cwd(), environment, ("--force",) if options.force else ())
    console = Console()
    dag = read_dag(targets, options.force)
    if not dag.jobs:
        console.print(f"All {len(dag.unchanged)} stages are up to date.", highlight=False)
        return 0
    began = time.monotonic()
    running: set[str] = set()  # these stages may still hold locks
    try:
        with connect(options.address, options.jobs), tracker_running():
            gpus, slots = gpu_slots(options.gpus_per_stage)
            queue = Queue(dag.jobs, options.jobs, slots)
            running = queue.running
            progress = ProgressLog(len(dag.jobs), console, machine_names())
            with _interruptible() as check:
                run_jobs(queue, Cluster(command, gpus), progress, check)
            running |= progress.errors.keys()  # if its worker died too often, the attempt may still be ending
    finally:
        for stage in running:
            _wait_for_end(stage)
    _summarise(console, dag, queue.statuses, progress.errors, time.monotonic() - began)
    return 0 if all(status.done for status in queue.statuses.values()) else 1


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Raise on Ctrl-C, and yield a check that raises again: an interrupt inside one of Ray's callbacks is lost."""
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    def check() -> None:
        if interrupted:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


def _wait_for_end(stage: str) -> None:
    """Wait until a stage, which outlives its worker by seconds, releases its lock; then clean up after it."""
    with stage_lock(stage):
        remove_stale_entries(stage)


def _invocation() -> str:
    return f"tauflow repro --jobs, {datetime.now():%Y-%m-%d %H:%M:%S}, process {os.getpid()} on {platform.node()}"


def _summarise(
    console: Console, dag: Dag, statuses: Mapping[str, Status], errors: Mapping[str, str], seconds: float
) -> None:
    counts = {status: sum(each is status for each in statuses.values()) for status in Status}
    counts[Status.UNCHANGED] += len(dag.unchanged)
    summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    console.print(f"\n{summary} in {seconds:.0f} s", highlight=False)
    for stage, error in errors.items():
        path = log_file(stage)
        log = f"\n    log: {path.relative_to(Path.cwd())}" if path.exists() else ""
        console.print(f"failed: {stage}: {error}{log}", highlight=False, markup=False, soft_wrap=True)
