"""Reading the output of a reproduction, showing it, and accounting for its time."""

import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from tauflow.commands.output import fit, table_of
from tauflow.dvc.repro import Event, State
from tauflow.planning.accounting import accounts, of_trackers, total
from tauflow.planning.measured import measured
from tauflow.tracking.times import ProcessCost, StageTime, Stopwatch, latest, overheads, read_times, record
from tauflow.watching.process import Bar, Line, LineReader
from tauflow.watching.run import Ended, Run
from tauflow.watching.view import Lines, clock_text, draw, duration_text, left_text
from tauflow.watching.watch import kept_text, summary_text
from tests.conftest import ROOT

# The output of a stage on its terminal, a bar drawn by rich.
BAR = """
import sys, time
from pipeline.io.progress import progress
print("warning: of DVC", file=sys.stderr)
for step in progress(range(4), "fine-tuning", 4):
    time.sleep(0.5)
print("error: the last word", file=sys.stderr)
"""


def test_bars_and_lines_of_a_real_terminal() -> None:
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", BAR], stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        reader, statements = LineReader(True), list[Line | Bar]()
        while True:
            try:
                statements += reader.feed(os.read(ours, 50))  # in pieces that cut sequences and characters
            except OSError:  # the other end is closed
                break
        os.close(ours)
    assert process.returncode == 0
    bars = [each for each in statements if isinstance(each, Bar)]
    assert [each for each in statements if isinstance(each, Line)] == [
        Line("warning: of DVC", True),
        Line("error: the last word", True),
    ]
    assert {bar.share for bar in bars} >= {0.0, 0.5, 1.0}
    assert bars[-1].title == "fine-tuning"


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def begun(clock: Clock, **expected: float) -> Run:
    """A run of four stages, one of them up to date, whose first stage runs."""
    run = Run(lambda names: {name: expected[name] for name in names if name in expected}, clock)
    run.take(Event(State.PLANNED, ("a@1", "a@2", "b", "c")))
    run.take(Event(State.STALE, ("a@2", "b", "c")))
    run.take(Event(State.UNCHANGED, ("a@1",)))
    run.take(Event(State.RUNNING, ("a@2",)))
    return run


def test_a_run_counts_stale_stages_and_estimates_from_earlier_ones(clock: Clock) -> None:
    run = begun(clock, **{"a@2": 10.0, "b": 30.0})
    assert (run.number, run.total, run.unchanged) == (1, 3, 1)
    assert left_text(run) == "at least 40 s left (1 stages not known yet)"
    clock.now = 4.0
    assert run.left().seconds == 36.0
    assert run.take(Line("a@2: accuracy 83.4 % [82.6, 84.2]", False)) is None
    assert run.take(Line("  more", False)) is None
    clock.now = 12.0
    assert run.left().seconds == 30.0  # late, but not negative
    ended = run.take(Event(State.RAN, ("a@2",)))
    assert ended == Ended("a@2", State.RAN, 12.0, "accuracy 83.4 % [82.6, 84.2]")
    assert list(run.results) == ["a@2: accuracy 83.4 % [82.6, 84.2]"]
    run.take(Event(State.UNCHANGED, ("b",)))  # its inputs are the same as before
    assert (run.number, run.total, run.unchanged) == (2, 2, 2)
    run.take(Event(State.RESTORED, ("c",)))
    clock.now = 13.0
    run.take(Event(State.RAN, ("c",)))
    assert summary_text(run) == "1 ran, 1 restored from the run cache, 2 up to date in 13 s"
    assert left_text(run) == "about 0 s left"


def test_a_first_run_learns_from_its_own_stages_and_bars(clock: Clock) -> None:
    run = begun(clock)
    assert left_text(run) == "time left not known yet"
    clock.now = 10.0
    run.take(Bar("fine-tuning", 0.25))
    assert run.left().seconds == pytest.approx(30.0)
    run.take(Event(State.RAN, ("a@2",)))
    run.waiting["a@3"] = None
    assert run.left().seconds == pytest.approx(10.0)  # as long as a@2


def test_errors_are_shown_at_once_and_output_of_a_stage_is_kept(clock: Clock) -> None:
    run = begun(clock)
    error = Line("error: a@2: no images", True)
    assert run.take(error) == error
    assert run.take(Line("Traceback", False)) is None
    assert run.current
    assert list(run.current.output) == ["Traceback"]
    assert kept_text(run).splitlines() == [
        "Stopped: 0 of 3 stages have run and are kept, 1 were up to date.",
        "a@2, which was running, runs again.",
        "The same command continues.",
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_the_view_fits_the_terminal(clock: Clock, width: int) -> None:
    run = begun(clock, **{"a@2": 600.0, "b": 30.0, "c": 8.0})
    run.take(Bar("fine-tuning", 0.5))
    run.take(Line(f"a@2: {'long ' * 40}", False))
    clock.now = 65.0
    buffer = io.StringIO()
    Console(file=buffer, width=width, force_terminal=True, color_system=None).print(draw(run))
    lines = buffer.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) == 7
    text = "\n".join(line.rstrip() for line in lines)
    assert "1 of 3" in text
    assert "time     1:05 passed, about 10 min left" in text
    assert "now      a@2  1:05" in text
    assert "50% fine-tuning" in text
    assert "next     1 b, 1 c" in text


def test_plain_lines(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    run, lines = begun(clock, **{"a@2": 10.0, "b": 10.0, "c": 10.0}), Lines()
    lines.update(run)
    lines.update(run)
    clock.now = 2.5
    ended = run.take(Event(State.RAN, ("a@2",)))
    assert isinstance(ended, Ended)
    lines.end(run, ended)
    lines.line(Line("warning: x", True))
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == "3 of 4 stages to run, about 30 s left"
    assert printed.out.splitlines()[1][9:] == "1/3  a@2  2.5 s"
    assert printed.err == "warning: x\n"


def test_durations() -> None:
    assert [clock_text(seconds) for seconds in (7, 750, 3723)] == ["0:07", "12:30", "1:02:03"]
    assert [duration_text(seconds) for seconds in (7, 750, 11520)] == ["7 s", "12 min", "3.2 h"]


DVC = ProcessCost("1 100.0", 100.0, 2.0)
# Three stages of one DVC process, which began at 100 s.
TIMES = [
    StageTime("a@1", "tiny", "FINISHED", "one", 103.0, 2.0, 10.0, 1.0, 8.0, DVC),
    StageTime("a@2", "tiny", "FINISHED", "one", 114.0, 1.0, 5.0, 0.5, 4.0, replace(DVC, cpu=3.0)),
    StageTime("b", "tiny", "FAILED", "one", 121.0, 1.0, 2.0, 0.5, 1.0, replace(DVC, cpu=3.5)),
]


def test_what_passes_between_two_stages_is_dvcs() -> None:
    between = overheads(list(reversed(TIMES)))
    assert [(between[time].seconds, between[time].cpu) for time in TIMES] == [(3.0, 2.0), (1.0, 1.0), (2.0, 0.5)]


def test_accounts_add_up() -> None:
    first, second = rows = accounts(TIMES, TIMES)
    assert (first.name, first.instances, first.seconds, first.imports, first.dvc) == ("a", 2, 12.0, 3.0, 4.0)
    assert (first.cpu, first.imports_cpu, first.dvc_cpu) == (10.5, 1.5, 3.0)
    assert second.wall == 4.0
    everything = total(rows)
    assert everything.wall == TIMES[-1].ended - DVC.began  # nothing is counted twice or left out
    assert everything.total_cpu == sum(time.cpu for time in TIMES) + 3.5
    assert of_trackers([ProcessCost("2", 104.0, 7.0), ProcessCost("3", 50.0, 9.0)], TIMES) == 7.0


def test_expected_times_are_a_stages_own_else_its_kinds() -> None:
    later = replace(TIMES[0], began=203.0, seconds=6.0, dvc=None)
    times = measured([*TIMES, later], "tiny", ["a@1", "a@3", "b"])
    assert (times["a@1"].seconds, times["a@1"].own) == (6.0, True)  # the last one counts
    assert (times["a@3"].seconds, times["a@3"].own) == (6.0, False)
    assert "b" not in times  # it has only failed
    assert measured(TIMES, "mini", ["a@1"]) == {}


def test_times_are_kept_and_damaged_lines_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    Path(".tauflow").mkdir()
    tracker = ProcessCost("9 1.0", 1.0, 5.0)
    for entry in (*TIMES, tracker, replace(tracker, cpu=6.0)):
        record(entry)
    path = Path(".tauflow", "times.jsonl")
    path.write_text(path.read_text() + '{"kind": "stage", "stage": "half\n[]\n{"kind": "stage", "unknown": 1}\n')
    assert read_times() == (TIMES, [replace(tracker, cpu=6.0)])
    assert set(latest(read_times()[0], "tiny")) == {"a@1", "a@2"}


def test_a_stopwatch_measures_from_the_start_of_the_process() -> None:
    code = """
import time
from tauflow.tracking.times import Stopwatch
began = time.time()
watch = Stopwatch.begin("a", "tiny", "one", None, None)
until = time.process_time() + 0.3
while time.process_time() < until: pass
time.sleep(0.3)
found = watch.end("FINISHED")
print(found.imports, found.seconds, found.imports_cpu, found.cpu, began - found.began)
"""
    started = time.monotonic()
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    whole = time.monotonic() - started
    imports, seconds, imports_cpu, cpu, before = map(float, printed.split())
    assert 0 < imports < seconds - 0.55 < whole
    assert imports == pytest.approx(before, abs=0.1)
    assert 0.25 < cpu - imports_cpu < seconds - imports - 0.25


def test_a_stopwatch_without_dvc_has_none() -> None:
    assert Stopwatch.begin("a", "tiny", "one", None, None).end("FINISHED").dvc is None


TABLE = pd.DataFrame(
    {
        "model": ["mini-clip", "mini-clip"],
        "paradigm": ["zero-shot", "standard"],
        "single-task": ["52.3 [51.3, 53.4]", "83.4 [82.6, 84.2]"],
        "addition, tuned α": ["52.3 [51.3, 53.4]", "63.2 [62.2, 64.2]"],
        "normalised": ["", "74.5 [73.0, 76.0]"],
        "negation: control": ["53.8 [51.7, 56.0]", "51.0 [49.1, 52.9]"],
    }
)


def printed(table: pd.DataFrame, console: Console) -> list[str]:
    buffer = io.StringIO()
    Console(file=buffer, width=console.width, color_system=None).print(table_of(table, ""))
    return buffer.getvalue().splitlines()


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (130, []),
        (80, ["intervals' ends"]),
        (60, ["intervals' ends", "model", "normalised"]),
    ],
)
def test_a_table_fits_without_a_broken_cell(width: int, left_out: list[str]) -> None:
    console = Console(width=width, color_system=None)
    table, without = fit(TABLE, console, ("normalised", "model"))
    assert without == left_out
    lines = printed(table, console)
    assert max(map(len, lines)) <= width
    for row in table.itertuples(index=False):
        assert any(all(cell in line for cell in row) for line in lines)
    expected = "83.4 [82.6, 84.2]" if width == 130 else "83.4 ± 0.8"
    assert expected in table["single-task"].to_list()


def test_prose_breaks_between_words() -> None:
    table = pd.DataFrame(
        {"stage": ["finetune"], "why": ["prepare.max_images: 10 → 20; after prepare@textures and 3 more"]}
    )
    console = Console(width=40, color_system=None)
    fitted, left_out = fit(table, console)
    assert left_out == []
    words = " ".join(line[11:].strip() for line in printed(fitted, console)[3:])
    assert " ".join(words.split()) == table["why"].iloc[0]


def test_dvc_stops_before_the_next_stage(tmp_path: Path) -> None:
    """Ctrl-C may arrive when a stage is about to end well, which DVC takes for no interruption."""
    for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=tmp_path, check=True, env=with_programs())
    nap = "  {0}:\n    cmd: sleep 1 && touch {0}\n    outs: [{0}]\n"
    (tmp_path / "dvc.yaml").write_text("stages:\n" + nap.format("first") + nap.format("second"))
    reader, writer = os.pipe()
    environment = with_programs() | {"TAUFLOW_EVENTS": str(writer), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "tauflow.dvc.repro"], cwd=tmp_path, env=environment, pass_fds=[writer]
    ) as process:
        os.close(writer)
        with os.fdopen(reader) as events:
            received = []
            for line in events:
                received.append(Event.parse(line))
                if received[-1].state is State.RUNNING:
                    process.send_signal(signal.SIGUSR1)
    assert received == [
        Event(State.PLANNED, ("first", "second")),
        Event(State.STALE, ("first", "second")),
        Event(State.RUNNING, ("first",)),
        Event(State.RAN, ("first",)),
    ]
    assert process.returncode != 0
    assert "first:" in (tmp_path / "dvc.lock").read_text()
    assert not (tmp_path / "second").exists()


def with_programs() -> dict[str, str]:
    """The environment with this interpreter's programs first on the path."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
