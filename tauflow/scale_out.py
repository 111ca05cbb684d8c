"""``tauflow repro --jobs N``: the stages that DVC finds stale, several at once."""

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
from tauflow.attempt import forget_dead
from tauflow.cluster import Cluster, Job, Outcome, check_installed, connect, gpu_slots, machine_names
from tauflow.dag import Dag, read_dag
from tauflow.journal import TRACKER, tracker_running
from tauflow.locks import only_attempt
from tauflow.logs import attempts, log_file
from tauflow.parallel import Fate, Schedule
from tauflow.stage import INVOCATION

FORCE = ("-f", "--force")


@dataclass(frozen=True)
class Options:
    """Of the command line; ``arguments`` are those of `dvc repro`."""

    jobs: int
    gpus_per_stage: float | None
    address: str | None
    arguments: tuple[str, ...]

    @property
    def force(self) -> bool:
        """Whether to run what is up to date too."""
        return any(argument in FORCE for argument in self.arguments)

    @property
    def targets(self) -> list[str]:
        """The stages to run, with what they depend on; none: all.

        Raises:
            UserError: there is another option of `dvc repro` among the arguments.
        """
        others = [argument for argument in self.arguments if argument not in FORCE]
        for argument in others:
            if argument.startswith("-"):
                raise UserError(f"{argument}: with --jobs only stages and --force may be named; else leave --jobs out")
        return others


@dataclass
class Progress:
    """Says what runs where, as lines, since it may go on for days."""

    total: int
    console: Console
    machines: Mapping[str, str]
    errors: dict[str, str] = field(default_factory=dict)
    announced: dict[str, int] = field(default_factory=dict)
    ended: int = 0

    def started(self, stage: str) -> None:
        """Say where a running stage has begun, or begun again since its worker died."""
        begun = attempts(stage)
        for number, where in enumerate(begun[self.announced.get(stage, 0) :], self.announced.get(stage, 0)):
            node, _, gpus = where.partition(" ")
            place = f"{self.machines.get(node, node[:6])}{f', {gpus}' if gpus else ''}"
            self._say(stage, f"again on {place}: its worker died" if number else f"on {place}")
        self.announced[stage] = len(begun)

    def end(self, stage: str, outcome: Outcome) -> None:
        """Say how a stage ended."""
        self.started(stage)
        self.ended += 1
        self._say(stage, f"{outcome.fate} ({outcome.seconds:.1f} s)")
        if outcome.error:
            self.errors[stage] = outcome.error

    def skip(self, stage: str, because: str) -> None:
        """Say that a stage is skipped."""
        self.ended += 1
        self._say(stage, f"skipped: {because} failed")

    def _say(self, stage: str, what: str) -> None:
        width = len(str(self.total))
        self.console.print(
            f"[dim]{datetime.now():%H:%M:%S} {self.ended:{width}}/{self.total}[/dim]  {escape(stage)}  {escape(what)}",
            highlight=False,
            soft_wrap=True,
        )


def repro_in_parallel(options: Options) -> int:
    """Run what is stale; returns the exit code.

    Raises:
        UserError: an argument is wrong, or there is no Ray.
        KeyboardInterrupt: nothing of the command runs any more, and no lock is left.
    """
    check_installed()
    targets = options.targets
    # One tracker for all machines, here; no stage starts another.
    environment = {**os.environ, INVOCATION: _invocation(), TRACKER: "off"}
    job = Job(Path.cwd(), environment, ("--force",) if options.force else ())
    console = Console()
    dag = read_dag(targets, options.force)
    if not dag.tasks:
        console.print(f"All {len(dag.unchanged)} stages are up to date.", highlight=False)
        return 0
    began = time.monotonic()
    running: set[str] = set()  # what may have left something behind
    try:
        with connect(options.address, options.jobs), tracker_running():
            gpus, slots = gpu_slots(options.gpus_per_stage)
            schedule = Schedule(dag.tasks, options.jobs, slots)
            running = schedule.running
            progress = Progress(len(dag.tasks), console, machine_names())
            with _interruptible() as check:
                _run(schedule, Cluster(job, gpus), progress, check)
            running |= progress.errors.keys()  # a worker may have died once too often
    finally:
        for stage in running:
            _wait_for_end(stage)
    _summarise(console, dag, schedule.fates, progress.errors, time.monotonic() - began)
    return 0 if all(fate.done for fate in schedule.fates.values()) else 1


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Ctrl-C as ever, and a check that raises it again: an interruption inside a callback of Ray's gets lost."""
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


def _run(schedule: Schedule, cluster: Cluster, progress: Progress, check_interruption: Callable[[], None]) -> None:
    while not schedule.finished:
        check_interruption()
        for task in schedule.start():
            cluster.start(task)
        for stage, outcome in cluster.wait().items():
            progress.end(stage, outcome)
            for skipped in schedule.end(stage, outcome.fate):
                progress.skip(skipped, stage)
        for stage in schedule.running:
            progress.started(stage)


def _wait_for_end(stage: str) -> None:
    """Stages end with their workers, some seconds later; then nothing of them is in use."""
    with only_attempt(stage):
        forget_dead(stage)


def _invocation() -> str:
    return f"tauflow repro --jobs, {datetime.now():%Y-%m-%d %H:%M:%S}, process {os.getpid()} on {platform.node()}"


def _summarise(
    console: Console, dag: Dag, fates: Mapping[str, Fate], errors: Mapping[str, str], seconds: float
) -> None:
    counts = {fate: sum(each is fate for each in fates.values()) for fate in Fate}
    counts[Fate.UNCHANGED] += len(dag.unchanged)
    said = ", ".join(f"{count} {fate}" for fate, count in counts.items() if count)
    console.print(f"\n{said} in {seconds:.0f} s", highlight=False)
    for stage, error in errors.items():
        path = log_file(stage)
        log = f"\n    log: {path.relative_to(Path.cwd())}" if path.exists() else ""
        console.print(f"failed: {stage}: {error}{log}", highlight=False, markup=False, soft_wrap=True)
