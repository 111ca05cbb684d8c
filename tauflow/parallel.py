"""Which stages may run now: the graph of what is stale, and a schedule of it. Knows neither DVC nor Ray."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Fate(StrEnum):
    """What became of a stage."""

    RAN = "ran"
    RESTORED = "restored from the run cache"
    UNCHANGED = "up to date"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def done(self) -> bool:
        """Whether the stage's outputs are what they should be."""
        return self in (Fate.RAN, Fate.RESTORED, Fate.UNCHANGED)


@dataclass(frozen=True)
class Task:
    """A stage instance that may have to run, after those that it ``needs``; ``gpu``: it runs on the chosen device."""

    name: str
    needs: frozenset[str] = frozenset()
    gpu: bool = False


@dataclass
class Schedule:
    """Tasks, at most ``slots`` at once, of them at most ``gpu_slots`` on GPUs.

    Of the tasks that may start, those come first on which the longest chain of others waits.
    """

    tasks: Mapping[str, Task]
    slots: int
    gpu_slots: int
    running: set[str] = field(default_factory=set)
    fates: dict[str, Fate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        below = chains(self.tasks)
        self._order = sorted(self.tasks, key=lambda name: -below[name])  # stable: else as DVC would run them

    @property
    def finished(self) -> bool:
        """Whether every task has met its fate."""
        return len(self.fates) == len(self.tasks)

    def start(self) -> list[Task]:
        """The tasks to start now; they count as running."""
        started = []
        gpus = self.gpu_slots - sum(self.tasks[name].gpu for name in self.running)
        for name in self._order:
            task = self.tasks[name]
            if len(self.running) == self.slots:
                break
            if self._may_start(task) and (gpus > 0 or not task.gpu):
                gpus -= task.gpu
                self.running.add(name)
                started.append(task)
        return started

    def end(self, name: str, fate: Fate) -> list[str]:
        """A running task has ended; returns those that are skipped because it failed."""
        self.running.remove(name)
        self.fates[name] = fate
        return [] if fate.done else self._skip_dependants(name)

    def _may_start(self, task: Task) -> bool:
        known = task.name in self.running or task.name in self.fates
        return not known and all(name in self.fates and self.fates[name].done for name in task.needs)

    def _skip_dependants(self, failed: str) -> list[str]:
        skipped: list[str] = []
        for name, task in self.tasks.items():
            if name not in self.fates and not task.needs.isdisjoint({failed, *skipped}):
                self.fates[name] = Fate.SKIPPED
                skipped.append(name)
        return skipped


def chains(tasks: Mapping[str, Task]) -> dict[str, int]:
    """How many tasks the longest chain holds that waits for each; ``tasks`` come after what they need."""
    below = dict.fromkeys(tasks, 0)
    for name in reversed(list(tasks)):
        for needed in tasks[name].needs:
            below[needed] = max(below[needed], below[name] + 1)
    return below
