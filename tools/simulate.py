"""Simulate `tauflow repro --jobs`: its own loop and queue, on workers that die, are slow, answer twice, or never start.

    .venv/bin/python -m tools.simulate --schedules 100000 --seed 0

Each schedule is a random DAG on random workers, under a clock of its own. Every instance must run once or be reported,
none may begin before its dependencies have ended, no more may run than there are slots for, the loop must end, and the
same command again must finish what the first one left. `--only N` runs one schedule, so that its error can be studied.
"""

import heapq
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Annotated

import typer

from tauflow.jobs.cluster import RETRIES
from tauflow.jobs.queue import Job, Queue, Status
from tauflow.jobs.schedule import JobResult, run_jobs

# Polls per job after which a loop counts as endless.
MAX_POLLS = 200


class BrokenError(Exception):
    """An invariant does not hold."""


def require(condition: bool, what: str) -> None:
    """Raise unless a condition holds."""
    if not condition:
        raise BrokenError(what)


@dataclass
class Chance:
    """The probabilities of what can go wrong."""

    dies: float
    fails: float
    twice: float
    interrupted: float
    slow: float

    @classmethod
    def draw(cls, random: Random) -> "Chance":
        """Return probabilities at which some things go wrong often and others never."""
        dies, fails, twice = (random.choice((0.0, 0.1, 0.6)) for _ in range(3))
        return cls(dies, fails, twice, interrupted=random.choice((0.0, 0.02)), slow=0.2)


@dataclass
class World:
    """Simulated workers, and the outputs that stages have written.

    done: jobs whose outputs are there, with the number of times that they were made.
    submitted: jobs without a result yet. An attempt may outlive its worker; `busy` is when the last one ends.
    """

    jobs: Mapping[str, Job]
    slots: int
    gpu_slots: int
    random: Random
    chance: Chance
    done: dict[str, int] = field(default_factory=dict)
    submitted: set[str] = field(default_factory=set)
    ends: dict[str, list[Status]] = field(default_factory=dict)
    now: float = 0.0
    polls: int = 0
    _events: list[tuple[float, int, str, JobResult]] = field(default_factory=list)
    _count: int = 0

    def start(self, job: Job) -> None:
        """See :class:`tauflow.jobs.schedule.Workers`."""
        require(job.name not in self.submitted, f"{job.name} was submitted twice")
        require(job.name not in self.ends, f"{job.name} was submitted after its end")
        require(all(need in self.done for need in job.needs), f"{job.name} began before its dependencies had ended")
        self.submitted.add(job.name)
        require(len(self.submitted) <= self.slots, "more jobs than slots")
        require(sum(self.jobs[name].gpu for name in self.submitted) <= self.gpu_slots, "more jobs than GPUs")
        self._answer(*self._attempts(job.name))

    def _attempts(self, name: str) -> tuple[str, float, JobResult]:
        """Let workers try a job as Ray does; return its name, and the time and content of the answer."""
        when = self.now
        for _ in range(RETRIES + 1):
            if name in self.done:  # an attempt ended well after its worker had died
                return name, when, JobResult(Status.UNCHANGED)
            seconds = self.random.random() * (100 if self.random.random() < self.chance.slow else 1)
            if self.random.random() >= self.chance.dies:
                if self.random.random() < self.chance.fails:
                    return name, when + seconds, JobResult(Status.FAILED, seconds, "its own error")
                self.done[name] = self.done.get(name, 0) + 1
                return name, when + seconds, JobResult(Status.RAN, seconds)
            when += seconds
            if self.random.random() < 0.3:  # the attempt wrote its outputs before it ended as well
                self.done[name] = self.done.get(name, 0) + 1
        return name, when, JobResult(Status.FAILED, error="its worker died")

    def _answer(self, name: str, when: float, result: JobResult) -> None:
        copies = 2 if self.random.random() < self.chance.twice else 1
        for late in (0.0, self.random.random())[:copies]:
            self._count += 1
            heapq.heappush(self._events, (when + late, self._count, name, result))

    def wait(self) -> dict[str, JobResult]:
        """See :class:`tauflow.jobs.schedule.Workers`."""
        self.polls += 1
        require(self.polls < MAX_POLLS * len(self.jobs), "the loop does not end")
        require(bool(self.submitted), "the loop waits although nothing runs")
        if self.random.random() < 0.2:
            return {}
        answered = {}
        for _ in range(self.random.choice((1, 1, 3))):
            if self._events:
                self.now, _, name, result = heapq.heappop(self._events)
                answered[name] = result
                self.submitted.discard(name)
        return answered

    def started(self, stage: str) -> None:
        """See :class:`tauflow.jobs.schedule.Listener`."""
        require(stage in self.submitted, f"{stage} counts as running but does not run")

    def end(self, stage: str, result: JobResult) -> None:
        """See :class:`tauflow.jobs.schedule.Listener`."""
        self.ends.setdefault(stage, []).append(result.status)
        require(result.status is not Status.FAILED or bool(result.error), f"{stage} failed without a reason")

    def skip(self, stage: str, failed: str) -> None:
        """See :class:`tauflow.jobs.schedule.Listener`."""
        require(stage not in self.submitted, f"{stage} is skipped while it runs")
        self.ends.setdefault(stage, []).append(Status.SKIPPED)

    def check_interruption(self) -> None:
        """Interrupt now and then, as Ctrl-C does."""
        if self.random.random() < self.chance.interrupted:
            raise KeyboardInterrupt


def draw_jobs(random: Random) -> dict[str, Job]:
    """Return a random DAG, in topological order."""
    jobs: dict[str, Job] = {}
    for number in range(random.randint(1, 7)):
        needs = frozenset(name for name in jobs if random.random() < 0.3)
        jobs[f"stage{number}"] = Job(f"stage{number}", needs, random.random() < 0.5)
    return jobs


def simulate(seed: int, number: int) -> None:
    """Run one schedule, and the same command again.

    Raises:
        BrokenError: an invariant does not hold.
    """
    random = Random(f"{seed} {number}")
    jobs, slots, gpu_slots = draw_jobs(random), random.randint(1, 4), random.choice((1, 2, sys.maxsize))
    world = World(jobs, slots, gpu_slots, random, Chance.draw(random))
    interrupted = False
    queue = Queue(jobs, slots, gpu_slots)
    try:
        run_jobs(queue, world, world, world.check_interruption)
    except KeyboardInterrupt:
        interrupted = True
        require(world.submitted <= queue.running, "an interrupted command forgets jobs that run")
    _check(world, queue, interrupted)
    rest = {
        name: Job(name, job.needs - world.done.keys(), job.gpu) for name, job in jobs.items() if name not in world.done
    }
    again = World(rest, slots, gpu_slots, random, Chance(0.0, 0.0, 0.0, 0.0, 0.0), dict(world.done))
    run_jobs(Queue(rest, slots, gpu_slots), again, again, again.check_interruption)
    require(again.done == dict.fromkeys(jobs, 1), "the same command again does not make every output once")


def _check(world: World, queue: Queue, interrupted: bool) -> None:
    require(all(count == 1 for count in world.done.values()), "an instance ran well more than once")
    require(all(len(ends) == 1 for ends in world.ends.values()), "an instance was reported more than once")
    require({name: ends[0] for name, ends in world.ends.items()} == queue.statuses, "the reports are not the statuses")
    for name, status in queue.statuses.items():
        lost = {queue.statuses.get(need) for need in world.jobs[name].needs} & {Status.FAILED, Status.SKIPPED}
        require((status is Status.SKIPPED) == bool(lost), f"{name} is {status}, but its dependencies are {lost}")
        require(not status.done or name in world.done, f"{name} is {status} without an output")
    if not interrupted:
        require(queue.statuses.keys() == world.jobs.keys(), "an instance is not reported")
        require(not queue.running, "a slot is lost")


def main(
    schedules: Annotated[int, typer.Option(min=1, help="Number of schedules.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Seed of the random choices.")] = 0,
    only: Annotated[int | None, typer.Option(help="Run only the schedule of this number.")] = None,
) -> None:
    """Simulate schedules; exit code 1 at the first in which something does not hold."""
    for number in range(schedules) if only is None else (only,):
        try:
            simulate(seed, number)
        except BrokenError as error:
            sys.exit(f"error: --seed {seed} --only {number}: {error}")
    print(f"{schedules if only is None else 1} schedules, no problem")


if __name__ == "__main__":
    typer.run(main)
