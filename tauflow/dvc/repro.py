"""``dvc repro`` with a fast writer of the lock: ``python -m tauflow.dvc.repro [ARGUMENT]...``.

With ``TAUFLOW_EVENTS``, the descriptor of an open file, it writes what DVC does to that file, one line of JSON per
:class:`Event`, and prints only DVC's warnings and errors.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

import dvc.repo.reproduce as dvc_reproduce
from dvc.ui import ui

from tauflow.dvc.command import run_dvc

if TYPE_CHECKING:
    from dvc.stage import Stage

# Environment variable with the descriptor of the file.
EVENTS = "TAUFLOW_EVENTS"
# The signal after which no further stage starts. DVC ignores Ctrl-C while a stage runs, which may still succeed.
STOP = signal.SIGUSR1


class State(StrEnum):
    """The state of a stage instance: it waits for its turn, is found stale, runs, is restored, or has ended."""

    PLANNED = "planned"
    STALE = "stale"
    RUNNING = "running"
    RESTORED = "restored"
    RAN = "ran"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Event:
    """The new state of stage instances."""

    state: State
    stages: tuple[str, ...]

    @classmethod
    def parse(cls, line: str) -> "Event":
        """Return the event of a line that :class:`Reporter` wrote."""
        content = json.loads(line)
        return cls(State(content["state"]), tuple(content["stages"]))


# What DVC logs when it starts a stage's command, and when it restores outputs from its run cache.
_LOGGED = {
    "Running stage '%s':": State.RUNNING,
    "Stage '%s' is cached - skipping run, checking out outputs": State.RESTORED,
}


class Reporter(logging.Handler):
    """Write events about the stages of a reproduction.

    DVC logs when a stage starts; the list of stages and their ends come from DVC's function that loops over them.
    """

    def __init__(self, file: TextIO) -> None:
        super().__init__(logging.INFO)
        self._file = file
        self._stopped = False

    def install(self) -> None:
        """Report what DVC does in this process, silence its informative messages, and stop at ``STOP``."""
        signal.signal(STOP, self._stop)
        logger = logging.getLogger("dvc")
        for handler in logger.handlers:
            if handler.level == logging.INFO:
                handler.setLevel(logging.WARNING)
        logger.addHandler(self)
        ui.enable = lambda: None  # prints that all is up to date, and advice about `dvc push`
        go_through: Callable[..., Any] = dvc_reproduce._reproduce

        def reproduce(stages: Sequence["Stage"], *arguments: Any, **options: Any) -> Any:
            one = options.pop("repro_fn", dvc_reproduce._reproduce_stage)

            def reproduce_one(stage: "Stage", **own: Any) -> "Stage | None":
                if self._stopped:
                    raise KeyboardInterrupt
                result = one(stage, **own)
                self._write(State.RAN if result else State.UNCHANGED, stage.addressing)
                return result

            self._write(State.PLANNED, *(stage.addressing for stage in stages))
            self._write(State.STALE, *_stale(stages, options.get("force", False)))
            return go_through(stages, *arguments, repro_fn=reproduce_one, **options)

        dvc_reproduce._reproduce = reproduce

    def emit(self, record: logging.LogRecord) -> None:
        """Write an event if DVC logs that a stage starts."""
        state = _LOGGED.get(str(record.msg))
        if state and isinstance(record.args, tuple):
            self._write(state, *map(str, record.args))

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopped = True

    def _write(self, state: State, *stages: str) -> None:
        print(json.dumps(asdict(Event(state, stages))), file=self._file, flush=True)


def _stale(stages: Sequence["Stage"], force: bool) -> list[str]:
    """Return the stages that will run, unless those before them turn out to have the same outputs."""
    stale: list[str] = []
    outputs: set[str] = set()  # of stale stages
    for stage in stages:
        if force or not outputs.isdisjoint(dep.fs_path for dep in stage.deps) or stage.changed():
            stale.append(stage.addressing)
            outputs.update(out.fs_path for out in stage.outs)
    return stale


def main(arguments: Sequence[str]) -> int:
    """Run `dvc repro`; return DVC's exit code."""
    number = os.environ.pop(EVENTS, None)
    if number is None:
        return run_dvc(["repro", *arguments])
    os.set_inheritable(int(number), False)
    with os.fdopen(int(number), "w", encoding="utf-8") as file:
        Reporter(file).install()
        return run_dvc(["repro", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
