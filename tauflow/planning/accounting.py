"""Where the time of a study went: wall and CPU seconds per kind of stage, of DVC, of imports, of the tracker."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tauflow.tracking.times import Overhead, ProcessCost, StageTime, overheads


@dataclass(frozen=True)
class Account:
    """Seconds of a kind of stage, summed over its instances.

    seconds, cpu: of the stages' own work, without imports.
    imports, imports_cpu: of starting Python and importing.
    dvc, dvc_cpu: between the stages: DVC's checks, hashes and its lock.
    """

    name: str
    instances: int
    seconds: float
    cpu: float
    imports: float
    imports_cpu: float
    dvc: float
    dvc_cpu: float

    @property
    def wall(self) -> float:
        """All seconds together."""
        return self.seconds + self.imports + self.dvc

    @property
    def total_cpu(self) -> float:
        """All CPU seconds together."""
        return self.cpu + self.imports_cpu + self.dvc_cpu


def accounts(shown: Iterable[StageTime], every: Sequence[StageTime]) -> list[Account]:
    """Return an account for each kind of stage, in order of appearance.

    Args:
        shown: the times to add up.
        every: all times; what DVC took for a stage follows from the stage that it ran before.
    """
    around = overheads(every)
    by_kind: dict[str, list[StageTime]] = {}
    for time in sorted(shown, key=lambda time: time.began):
        by_kind.setdefault(time.kind, []).append(time)
    return [_sum(kind, times, [around.get(time, Overhead()) for time in times]) for kind, times in by_kind.items()]


def total(rows: Sequence[Account]) -> Account:
    """Return the sum of accounts."""
    return Account(
        "total",
        sum(row.instances for row in rows),
        sum(row.seconds for row in rows),
        sum(row.cpu for row in rows),
        sum(row.imports for row in rows),
        sum(row.imports_cpu for row in rows),
        sum(row.dvc for row in rows),
        sum(row.dvc_cpu for row in rows),
    )


def of_trackers(trackers: Iterable[ProcessCost], times: Sequence[StageTime]) -> float:
    """Return the CPU seconds of the trackers that began while these stages ran."""
    if not times:
        return 0.0
    first, last = min(time.began for time in times), max(time.ended for time in times)
    return sum(tracker.cpu for tracker in trackers if first <= tracker.began <= last)


def _sum(kind: str, times: Sequence[StageTime], around: Sequence[Overhead]) -> Account:
    return Account(
        kind,
        len(times),
        sum(time.seconds - time.imports for time in times),
        sum(time.cpu - time.imports_cpu for time in times),
        sum(time.imports for time in times),
        sum(time.imports_cpu for time in times),
        sum(overhead.seconds for overhead in around),
        sum(overhead.cpu for overhead in around),
    )
