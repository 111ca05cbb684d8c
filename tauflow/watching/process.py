"""A reproduction in a process of its own, and what it reports: DVC's events, lines of output, progress bars."""

import fcntl
import os
import pty
import re
import selectors
import signal
import struct
import subprocess
import sys
import termios
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from types import FrameType

import psutil

from artifacts.workspace import program_path
from tauflow.dvc.repro import EVENTS, STOP, Event

MODULE = "tauflow.dvc.repro"
# Interval at which a caller gets a turn while there is no output, in seconds.
TICK_SECONDS = 0.25
# Size of the terminal that stages see; a bar with its description fits in a line.
_TERMINAL = struct.pack("HHHH", 40, 120, 0, 0)
_CONTROL = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07)")
_BAR = re.compile(r"^(?P<title>.*?)\s*[━╸╺]+\s+(?P<percent>\d+)%")
_READ_BYTES = 65536


@dataclass(frozen=True)
class Line:
    """A line of output of DVC or a stage; ``error``: of standard error."""

    text: str
    error: bool


@dataclass(frozen=True)
class Bar:
    """A stage's progress bar; the share is between 0 and 1."""

    title: str
    share: float


Statement = Event | Line | Bar | None


@dataclass
class LineReader:
    """Split the bytes of a stream into lines and bars.

    On a terminal a bar draws itself again and again in one line, after a carriage return; it ends with a line break,
    which is not a line of output.
    """

    error: bool
    _rest: str = ""
    _decode: Callable[[bytes], str] = field(default_factory=lambda: getincrementaldecoder("utf-8")("replace").decode)

    def feed(self, content: bytes) -> Iterator[Line | Bar]:
        """Yield what is complete, and the last state of a bar."""
        *complete, self._rest = (self._rest + self._decode(content)).replace("\r\n", "\n").split("\n")
        for text in complete:
            statement = self._statement(text)
            if isinstance(statement, Line):
                yield statement
        statement = self._statement(self._rest)
        if isinstance(statement, Bar):
            yield statement

    def _statement(self, text: str) -> Line | Bar | None:
        shown = _CONTROL.sub("", text).rpartition("\r")[2].rstrip()
        bar = _BAR.match(shown)
        if bar:
            return Bar(bar["title"], int(bar["percent"]) / 100)
        return Line(shown, self.error) if shown else None


@dataclass
class Reproduction:
    """`dvc repro` in a child process. With ``terminal``, its stages get a terminal of their own, for their bars.

    Iterating yields its statements, and ``None`` at least every ``TICK_SECONDS``, until the process has ended. A
    terminal sends Ctrl-C to the child and its stage as well, which end in order; a second one terminates the stage.

    code: exit code of the process that has ended.
    interrupted: whether there was a Ctrl-C.
    """

    arguments: Sequence[str]
    terminal: bool
    code: int = field(default=1, init=False)
    interrupted: bool = field(default=False, init=False)

    def __iter__(self) -> Iterator[Statement]:
        with ExitStack() as stack:
            ours, theirs = zip(os.pipe(), _terminal() if self.terminal else os.pipe(), os.pipe(), strict=True)
            for number in ours:
                stack.callback(os.close, number)
            output, error, events = theirs
            environment = {**os.environ, "PATH": program_path(os.environ.get("PATH", "")), EVENTS: str(events)}
            process = subprocess.Popen(
                [sys.executable, "-m", MODULE, *self.arguments],
                stdout=output,
                stderr=error,
                env=environment,
                pass_fds=[events],
            )
            for number in theirs:
                os.close(number)

            def interrupt(number: int, frame: FrameType | None) -> None:
                if self.interrupted:
                    _terminate(process.pid)
                self.interrupted = True
                process.send_signal(STOP)

            stack.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, interrupt))
            yield from self._follow(process, *ours)
            self.code = process.wait()

    def _follow(self, process: "subprocess.Popen[bytes]", output: int, error: int, events: int) -> Iterator[Statement]:
        """Yield until the process has ended; a process that a stage left behind may hold its streams open longer."""
        readers = {output: LineReader(False), error: LineReader(True)}
        lines = ""
        with selectors.DefaultSelector() as selector:
            for number in (output, error, events):
                selector.register(number, selectors.EVENT_READ)
            ended = False
            while True:
                ended = ended or process.poll() is not None
                ready = {key.fd for key, _ in selector.select(0 if ended else TICK_SECONDS)}
                if ended and not ready:
                    return
                # A stage's output comes before the event of its end.
                for number in sorted(ready, key=(output, error, events).index):
                    content = _read(number)
                    if not content:
                        selector.unregister(number)
                    elif number == events:
                        *complete, lines = (lines + content.decode()).split("\n")
                        yield from map(Event.parse, complete)
                    else:
                        yield from readers[number].feed(content)
                yield None


def _terminate(process: int) -> None:
    """Terminate the stage that runs below a process; DVC then ends by itself and releases its locks."""
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.terminate()


def _terminal() -> tuple[int, int]:
    """Return both ends of a new terminal, ours first."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, _TERMINAL)
    return ours, theirs


def _read(number: int) -> bytes:
    with suppress(OSError):  # a terminal whose other end is closed
        return os.read(number, _READ_BYTES)
    return b""
