"""Show a reproduction: a live view on a terminal, a line for every stage elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tauflow.dvc.repro import State
from tauflow.watching.process import Line
from tauflow.watching.run import Ended, Run

# How often the view is drawn, per second.
DRAWN_PER_SECOND = 4
_LABEL_WIDTH = 8


class View(Protocol):
    """A display of a reproduction."""

    def update(self, run: Run) -> None:
        """Show the present state, as time passes."""
        ...

    def end(self, run: Run, ended: Ended) -> None:
        """Show that a stage has ended."""
        ...

    def line(self, line: Line) -> None:
        """Show a line at once: a warning or an error."""
        ...


class Lines:
    """A line for each stage that ran, for logs and pipes."""

    def __init__(self) -> None:
        self._announced = False

    def update(self, run: Run) -> None:
        """Say once how many stages there are to run."""
        if run.stale is not None and not self._announced:
            self._announced = True
            left = left_text(run)
            print(f"{run.stale} of {len(run.planned)} stages to run{f', {left}' if run.stale else ''}", flush=True)

    def end(self, run: Run, ended: Ended) -> None:
        """Print the stage, how long it took, and its result."""
        width = len(str(run.total))
        how = "restored" if ended.state is State.RESTORED else f"{ended.seconds:.1f} s"
        result = f": {ended.result}" if ended.result else ""
        print(f"{datetime.now():%H:%M:%S} {run.done:{width}}/{run.total}  {ended.stage}  {how}{result}", flush=True)

    def line(self, line: Line) -> None:
        """Print a line where the stage printed it."""
        print(line.text, file=sys.stderr if line.error else sys.stdout, flush=True)


class Screen:
    """A view at the bottom of a terminal, drawn again as time passes; lines stay above it."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def update(self, run: Run) -> None:
        """Draw the present state."""
        self._live.update(draw(run))

    def end(self, run: Run, ended: Ended) -> None:
        """Draw the state without the stage."""
        self.update(run)

    def line(self, line: Line) -> None:
        """Print a line above the view."""
        self._live.console.print(Text(line.text), soft_wrap=True)


@contextmanager
def view(terminal: bool) -> Iterator[View]:
    """Show a reproduction while the block runs; on a terminal the view goes away at its end."""
    if not terminal:
        yield Lines()
        return
    console = Console()
    with Live(console=console, refresh_per_second=DRAWN_PER_SECOND, transient=True) as live:
        yield Screen(live)


def draw(run: Run) -> RenderableType:
    """Return the view: how far the run is, what runs now, what waits, and the last results."""
    if not run.planned:
        return Text("Reading dvc.yaml and dvc.lock …", style="dim")
    if not run.stale:
        return Text(f"Checking {len(run.planned)} stages …", style="dim")
    rows = Table.grid(padding=(0, 1))
    rows.add_column(width=_LABEL_WIDTH, style="dim", no_wrap=True)
    rows.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    rows.expand = True
    rows.add_row("stage", _bar(run.done / run.stale, f"{run.number} of {run.stale}"))
    rows.add_row("time", f"{clock_text(run.seconds)} passed, {left_text(run)}")
    if run.current:
        rows.add_row("now", Text(f"{run.current.stage}  {clock_text(run.clock() - run.current.began)}", style="bold"))
        bar = run.current.bar
        rows.add_row("", _bar(bar.share, f"{bar.share:.0%} {bar.title}") if bar else "")
    waiting = ", ".join(f"{count} {kind}" for kind, count in run.waiting_by_kind.items())
    rows.add_row("next", Text(waiting or "nothing more", overflow="ellipsis"))
    for number, result in enumerate(reversed(run.results)):
        rows.add_row("" if number else "found", Text(result, overflow="ellipsis"))
    return Group(Text(), rows)


def _bar(share: float, label: str) -> RenderableType:
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(width=30)
    row.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    row.add_row(ProgressBar(total=1.0, completed=share, width=30), Text(label, overflow="ellipsis"))
    return row


def left_text(run: Run) -> str:
    """Return the time left as text, and how much of it is known."""
    left = run.left()
    if not left.unknown:
        return f"about {duration_text(left.seconds)} left"
    if left.unknown == len(run.waiting):
        return "time left not known yet"
    return f"at least {duration_text(left.seconds)} left ({left.unknown} stages not known yet)"


def clock_text(seconds: float) -> str:
    """Return a duration as ``0:07``, ``12:30`` or ``1:02:03``."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def duration_text(seconds: float) -> str:
    """Return a duration to two digits or so: ``40 s``, ``12 min``, ``3.2 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
