"""Run `dvc repro` and show it."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tauflow.dvc.repro import State
from tauflow.watching.process import Line, Reproduction
from tauflow.watching.run import Ended, Run, kind_of
from tauflow.watching.view import duration_text, view


@dataclass(frozen=True)
class WatchResult:
    """How a reproduction ended: DVC's exit code, whether Ctrl-C ended it, and how far it got."""

    code: int
    interrupted: bool
    run: Run


def watch(arguments: Sequence[str], expected: Callable[[list[str]], Mapping[str, float]]) -> WatchResult:
    """Run `dvc repro` with a live view on a terminal, or with a line for every stage elsewhere.

    Args:
        arguments: arguments of `dvc repro`.
        expected: returns the seconds that stage instances took in earlier runs.
    """
    terminal = sys.stdout.isatty() and sys.stderr.isatty()
    reproduction, run = Reproduction(arguments, terminal), Run(expected)
    with view(terminal) as display:
        for statement in reproduction:
            outcome = run.take(statement)
            if isinstance(outcome, Ended):
                display.end(run, outcome)
            elif isinstance(outcome, Line) and not reproduction.interrupted:  # DVC would call it a failure
                display.line(outcome)
            display.update(run)
        if reproduction.code and run.current and not reproduction.interrupted:
            for text in run.current.output:
                display.line(Line(text, False))
    return WatchResult(reproduction.code, reproduction.interrupted, run)


def summary_text(run: Run) -> str:
    """Return how many stages ran, were restored and were up to date, and how long all of it took."""
    ran = sum(ended.state is State.RAN for ended in run.ended)
    counts = {"ran": ran, "restored from the run cache": len(run.ended) - ran, "up to date": run.unchanged}
    parts = [f"{count} {state}" for state, count in counts.items() if count]
    return f"{', '.join(parts) or 'nothing to do'} in {duration_text(run.seconds)}"


def kept_text(run: Run) -> str:
    """Return a text that says what an interrupted run leaves behind."""
    if not run.planned:
        return "Stopped before a stage had begun."
    ran = f"{run.done} of {run.total} stages have run and are kept"
    lines = [f"Stopped: {ran}, {run.unchanged} were up to date."]
    if run.current:
        how = (
            "continues from its last checkpoint" if kind_of(run.current.stage).startswith("finetune") else "runs again"
        )
        lines.append(f"{run.current.stage}, which was running, {how}.")
    return "\n".join([*lines, "The same command continues."])
