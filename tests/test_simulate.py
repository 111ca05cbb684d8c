"""`python -m tools.simulate`, its quick form, and that it sees a scheduler that is wrong."""

from collections.abc import Callable

import pytest

from tauflow.jobs.queue import Job, Queue, Status
from tools.simulate import BrokenError, simulate


def run_schedules(count: int = 200, seed: int = 0) -> None:
    for number in range(count):
        simulate(seed, number)


def test_schedules_of_workers_that_die_are_slow_and_answer_twice() -> None:
    run_schedules(2000)


def test_a_schedule_is_the_same_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, Status]] = []
    end = Queue.end

    def note(queue: Queue, name: str, status: Status) -> list[str]:
        seen.append((name, status))
        return end(queue, name, status)

    monkeypatch.setattr(Queue, "end", note)
    for _ in range(2):
        run_schedules(20, seed=1)
    assert seen[: len(seen) // 2] == seen[len(seen) // 2 :]


def begins_early(queue: Queue, job: Job) -> bool:
    return job.name not in queue.running and job.name not in queue.statuses


def begins_never(queue: Queue, job: Job) -> bool:
    return False


def begins_twice(queue: Queue, job: Job) -> bool:
    return all(name in queue.statuses and queue.statuses[name].done for name in job.needs)


def skips_none(queue: Queue, failed: str) -> list[str]:
    return []


def skips_everything(queue: Queue, failed: str) -> list[str]:
    rest = [name for name in queue.jobs if name not in queue.statuses and name not in queue.running]
    queue.statuses |= dict.fromkeys(rest, Status.SKIPPED)
    return rest


def keeps_the_slot(queue: Queue, name: str, status: Status) -> list[str]:
    queue.statuses[name] = status
    return [] if status.done else queue._skip_dependants(name)


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        ("_may_start", begins_early),
        ("_may_start", begins_never),
        ("_may_start", begins_twice),
        ("_skip_dependants", skips_none),
        ("_skip_dependants", skips_everything),
        ("end", keeps_the_slot),
    ],
)
def test_a_wrong_scheduler_is_seen(method: str, wrong: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Queue, method, wrong)
    with pytest.raises(BrokenError):
        run_schedules()


@pytest.mark.parametrize("limit", ["slots", "gpu_slots"])
def test_a_limit_that_is_not_kept_is_seen(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start = Queue.start

    def without_limit(queue: Queue) -> list[Job]:
        setattr(queue, limit, 99)
        return start(queue)

    monkeypatch.setattr(Queue, "start", without_limit)
    with pytest.raises(BrokenError, match="more jobs than"):
        run_schedules()
