"""The progress of a reproduction: which stages have ended, which one runs, and what is left."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tauflow.dvc.repro import Event, State
from tauflow.watching.process import Bar, Line, Statement

# Lines of output that are kept of a stage.
KEPT_LINES = 50
# How many of the last results are shown.
SHOWN_RESULTS = 3


def kind_of(stage: str) -> str:
    """Return the entry of ``dvc.yaml`` of a stage instance."""
    return stage.partition("@")[0]


@dataclass
class Current:
    """The stage instance that DVC is at: when it began, its bar, and what it has printed."""

    stage: str
    state: State
    began: float
    bar: Bar | None = None
    output: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))


@dataclass(frozen=True)
class Ended:
    """A stage instance that ran or was restored: seconds, and the first result that it printed."""

    stage: str
    state: State
    seconds: float
    result: str


@dataclass(frozen=True)
class Left:
    """Estimate of the time that is left, in seconds, without the ``unknown`` stages, which have no known time."""

    seconds: float
    unknown: int


@dataclass
class Run:
    """The state of a reproduction.

    Args:
        expected: seconds that stage instances took in earlier runs.
        clock: returns the time in seconds.
    """

    expected: Callable[[list[str]], Mapping[str, float]] = lambda names: {}
    clock: Callable[[], float] = time.monotonic
    planned: list[str] = field(default_factory=list)
    waiting: dict[str, None] = field(default_factory=dict)  # stale stages that have not ended, in order
    stale: int | None = None  # ``None`` until DVC has looked at all stages
    ended: list[Ended] = field(default_factory=list)
    unchanged: int = 0
    current: Current | None = None
    results: deque[str] = field(default_factory=lambda: deque(maxlen=SHOWN_RESULTS))
    _times: Mapping[str, float] = field(default_factory=dict)
    _began: float = 0.0

    def __post_init__(self) -> None:
        self._began = self.clock()

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return self.clock() - self._began

    @property
    def number(self) -> int:
        """Number of the current stage among the stale ones, from 1; the last one's once all have ended."""
        return min(self.done + 1, self.total)

    @property
    def total(self) -> int:
        """Number of stale stages."""
        return self.stale or 0

    @property
    def done(self) -> int:
        """Number of stale stages that have ended."""
        return self.total - len(self.waiting)

    @property
    def waiting_by_kind(self) -> Counter[str]:
        """Number of stages that wait for their turn, by kind and in order."""
        return Counter(kind_of(name) for name in self.waiting if not self.current or name != self.current.stage)

    def take(self, statement: Statement) -> Ended | Line | None:
        """Take a statement of the reproduction; return a stage that has ended, or a line to show at once."""
        if isinstance(statement, Event):
            return self._take_event(statement)
        if isinstance(statement, Bar):
            if self.current:
                self.current.bar = statement
        elif isinstance(statement, Line):
            if statement.error or not self.current:
                return statement
            self.current.output.append(statement.text)
            result = self._result(statement.text)
            if result:
                self.results.append(result)
        return None

    def left(self) -> Left:
        """Estimate the time left: from earlier runs, else from the stages of the same kind in this one."""
        seconds, unknown = 0.0, 0
        for name in self.waiting:
            expected = self._expected(name)
            if self.current and name == self.current.stage:
                passed, bar = self.clock() - self.current.began, self.current.bar
                if expected is None and bar and bar.share > 0.1:
                    expected = passed / bar.share
                expected = max(expected - passed, 0.0) if expected is not None else None
            if expected is None:
                unknown += 1
            else:
                seconds += expected
        return Left(seconds, unknown)

    def _expected(self, name: str) -> float | None:
        if name in self._times:
            return self._times[name]
        same = [ended.seconds for ended in self.ended if kind_of(ended.stage) == kind_of(name)]
        return sum(same) / len(same) if same else None

    def _take_event(self, event: Event) -> Ended | None:
        stages = list(event.stages)
        match event.state:
            case State.PLANNED:
                self.planned = stages
            case State.STALE:
                self.waiting, self.stale = dict.fromkeys(stages), len(stages)
                self._times = self.expected(stages)
            case State.RUNNING | State.RESTORED:
                (name,) = stages
                self.current = Current(name, event.state, self.clock())
                if name not in self.waiting:  # found stale only now
                    self.waiting[name] = None
                    self.stale = self.total + 1
            case State.UNCHANGED:
                self.unchanged += 1
                if stages[0] in self.waiting:  # its inputs turned out to be the same
                    del self.waiting[stages[0]]
                    self.stale = self.total - 1
            case State.RAN:
                return self._end(stages[0])
        return None

    def _end(self, name: str) -> Ended | None:
        self.waiting.pop(name, None)
        current, self.current = self.current, None
        if current is None:  # DVC only committed what was there
            return None
        result = next((text for line in current.output if (text := self._strip(name, line))), "")
        state = State.RESTORED if current.state is State.RESTORED else State.RAN
        ended = Ended(name, state, self.clock() - current.began, result)
        self.ended.append(ended)
        return ended

    def _result(self, text: str) -> str | None:
        """Return a line that a stage prints about itself, with its name."""
        return text if self.current and text.startswith(f"{self.current.stage}: ") else None

    @staticmethod
    def _strip(name: str, text: str) -> str | None:
        return text.removeprefix(f"{name}: ") if text.startswith(f"{name}: ") else None
