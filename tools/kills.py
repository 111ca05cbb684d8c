"""Kill a reproduction at random moments: ``python -m tools.kills 200 --seed 0``.

Run it in a throw-away copy of the project in which the targets are up to date, such as one of the tiny suite. Each time
the targets are made anew in a copy of that, and something is killed with SIGKILL: the whole process group, `dvc` alone,
a stage, the tracker, or the preloaded process, of `tauflow repro` or of plain `dvc repro`. Then one `tauflow repro`
must finish with the outputs and the entries of ``dvc.lock`` of an undisturbed run, nothing may run on, and no run of
MLflow may stay RUNNING. Needs Linux.
"""

import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated

import psutil
import typer

from artifacts.workspace import program_path
from tauflow.dvc.guard import HEADER, read_blocks
from tauflow.dvc.lockfile import outputs, read_lock

# Part of the command line of the process to kill; the group has none.
KINDS = {
    "group": "",
    "dvc": "repro",
    "stage": "stages.",
    "tracker": "tauflow.tracking.tracker",
    "preloaded": "tauflow.running.preload",
}
TARGETS = [
    "head@mini-clip-textures",
    "finetune@mini-clip-textures-standard",
    "task_vector@mini-clip-textures-standard",
    "summary",
]
# Seconds after which a process counts as left running; an idle tracker waits for 15.
PATIENCE = 60.0
POLL = 0.02
DATABASE = "mlflow.db"


@dataclass(frozen=True)
class Study:
    """A directory in which the targets are to be made.

    root: where it lies; it is made anew from ``start`` each time.
    """

    start: Path
    root: Path
    targets: Sequence[str]

    def begin(self, command: Sequence[str]) -> "subprocess.Popen[bytes]":
        """Start a command there, in a process group of its own."""
        environment = {**os.environ, "PATH": program_path(os.environ.get("PATH", "")), "OMP_NUM_THREADS": "1"}
        with (self.root / "output").open("ab") as output:
            return subprocess.Popen(
                [*command, "--single-item", *self.targets],
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )

    def reset(self) -> None:
        """Make the directory anew. Files that are only ever replaced are linked."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.start, self.root, symlinks=True, copy_function=_place)

    def processes(self) -> list[psutil.Process]:
        """Return the processes that run there."""
        running = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == self.root:
                    running.append(process)
        return running

    def result(self) -> dict[str, str]:
        """Return the entries of ``dvc.lock``, and the hashes of the targets' outputs."""
        entries, lock = read_blocks(self.root), read_lock(self.root)
        paths = [self.root / path for target in self.targets for path in outputs(lock.get(target, {}))]
        files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
        return entries | {
            str(file.relative_to(self.root)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in files
            if file.is_file()
        }

    def open_runs(self) -> int:
        """Return how many runs of MLflow are RUNNING."""
        path = self.root / DATABASE
        if not path.exists():
            return 0
        with closing(sqlite3.connect(path)) as database:
            return database.execute("SELECT count(*) FROM runs WHERE status = 'RUNNING'").fetchone()[0]


TAUFLOW = (sys.executable, "-m", "tauflow.cli", "repro")
DVC = (sys.executable, "-m", "dvc", "repro")


def _place(source: str, target: str) -> None:
    if any(part in source for part in ("/.dvc/cache/", "/data/", "/.git/objects/")):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def prepare(directory: Path, targets: Sequence[str]) -> tuple[Study, dict[str, str], float]:
    """Return a study whose targets are to be made, the result of an undisturbed run, and the seconds that it takes."""
    source, study = Path.cwd(), Study(directory / "start", directory / "study", targets)
    ignored = shutil.ignore_patterns(".venv", "__pycache__", "runs", ".tauflow", "mlflow*", "output")
    shutil.copytree(source, study.start, symlinks=True, ignore=ignored, copy_function=_place)
    lock = read_lock(study.start)
    if missing := [target for target in targets if target not in lock]:
        sys.exit(f"error: {missing[0]} is not in dvc.lock; run this where it is up to date")
    for target in targets:
        for path in outputs(lock[target]):
            (study.start / path).unlink(missing_ok=True)
    left = {name: block for name, block in read_blocks(study.start).items() if name not in targets}
    (study.start / "dvc.lock").write_text(HEADER + "".join(left.values()), encoding="utf-8")
    study.reset()
    began = time.monotonic()
    process = study.begin(TAUFLOW)
    if process.wait():
        sys.exit(f"error: it fails undisturbed: {(study.root / 'output').read_text()[-500:]}")
    seconds = time.monotonic() - began
    if problem := _unfinished(study):
        sys.exit(f"error: undisturbed: {problem}")
    shutil.copy2(study.root / DATABASE, study.start)  # MLflow takes seconds to make one
    return study, study.result(), seconds


def kill(study: Study, kind: str, command: Sequence[str], delay: float) -> str:
    """Start a command and kill part of it after a delay, or as soon as that part exists; return what was killed."""
    process = study.begin(command)
    time.sleep(delay)
    if kind == "group":
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    while process.poll() is None and kind != "group":
        # `dvc` is the command itself, or the process that `tauflow repro` runs it in.
        named = [one for one in study.processes() if _is(one, kind) and (kind != "dvc" or "cli" not in _line(one))]
        if named:
            with suppress(psutil.Error):
                named[0].kill()
            break
        time.sleep(POLL)
    else:
        if kind != "group":
            kind = f"nothing ({kind} was not there)"
    process.wait()
    return kind


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _is(process: psutil.Process, kind: str) -> bool:
    return KINDS[kind] in _line(process)


def _unfinished(study: Study) -> str | None:
    """Return what runs on, or stays RUNNING, after a command has ended."""
    deadline = time.monotonic() + PATIENCE
    while left := study.processes():
        if time.monotonic() > deadline:
            lines = [_line(process) for process in left]
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            return f"runs on: {lines[0]}"
        time.sleep(POLL * 10)
    runs = study.open_runs()
    return f"{runs} runs of MLflow stay RUNNING" if runs else None


def finish(study: Study, expected: dict[str, str]) -> str | None:
    """Run the same command again, undisturbed; return what is wrong with the result."""
    code = study.begin(TAUFLOW).wait()
    if code:
        return f"exit code {code}: {(study.root / 'output').read_text(errors='replace')[-500:]}"
    actual = study.result()
    if wrong := [name for name in {**expected, **actual} if expected.get(name) != actual.get(name)]:
        return f"differs: {', '.join(sorted(wrong)[:3])}"
    return _unfinished(study)


def kill_all(study: Study, expected: dict[str, str], seconds: float, kills: int, random: Random) -> int:
    """Kill a reproduction ``kills`` times, with a line for each; return the number of problems."""
    problems = 0
    for number in range(1, kills + 1):
        kind = list(KINDS)[number % len(KINDS)]
        command, delay = (DVC if random.random() < 0.3 else TAUFLOW), random.uniform(0, seconds)
        began = time.monotonic()
        study.reset()
        killed = kill(study, kind, command, delay)
        problem = finish(study, expected)
        problems += problem is not None
        name = "dvc" if command is DVC else "tauflow"
        print(
            f"{number:4} {killed} of {name} after {delay:5.1f} s: {problem or 'whole'} "
            f"({time.monotonic() - began:.0f} s)",
            flush=True,
        )
    return problems


def main(
    kills: Annotated[int, typer.Argument(min=1, help="Number of kills.")],
    seed: Annotated[int, typer.Option(help="Of the kinds and moments.")] = 0,
    targets: Annotated[list[str] | None, typer.Option("--target", help="Stages to make; several times.")] = None,
) -> None:
    """Kill a reproduction; exit code 1 if it once did not recover."""
    with tempfile.TemporaryDirectory() as directory:
        study, expected, seconds = prepare(Path(directory).resolve(), targets or TARGETS)
        print(f"undisturbed: {seconds:.0f} s", flush=True)
        problems = kill_all(study, expected, seconds, kills, Random(seed))
    print(f"{kills} kills, {problems} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    typer.run(main)
