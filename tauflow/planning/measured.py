"""The time of stage instances as measured in earlier runs on this machine."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from tauflow.tracking.times import Overhead, StageTime, latest, overheads


@dataclass(frozen=True)
class Measured:
    """Seconds that a stage instance took, with its process and DVC's part; ``own``: not the mean of its kind."""

    seconds: float
    own: bool


def measured(times: Sequence[StageTime], suite: str, names: Iterable[str]) -> Mapping[str, Measured]:
    """Return the time of each stage instance: its own last one in this suite, else the mean of its kind's."""
    around = overheads(times)
    own = {name: time.seconds + around.get(time, Overhead()).seconds for name, time in latest(times, suite).items()}
    by_kind: dict[str, list[float]] = {}
    for name, seconds in own.items():
        by_kind.setdefault(name.partition("@")[0], []).append(seconds)
    means = {kind: fmean(seconds) for kind, seconds in by_kind.items()}
    return {
        name: Measured(own.get(name, means[kind]), name in own)
        for name in names
        if (kind := name.partition("@")[0]) in means
    }
