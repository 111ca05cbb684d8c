"""Fail every write of stages, one at a time, and check what they leave: ``python -m tools.faults STAGE…``.

Run it in a throw-away copy in which the stages are up to date. Needs Linux and a C compiler. For each call that makes,
writes, allocates or renames a file below the copy, the stage runs with that call failing (ENOSPC, or ``--error EIO``).
It must end with one line and a non-zero exit code, or as if nothing had failed, and leave no temporary file and no
half-written output. Run again without a fault, it must write the same bytes as before.
"""

import ctypes
import errno
import hashlib
import os
import re
import runpy
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from artifacts.instances import read_instances
from artifacts.workspace import PARAMETERS
from pipeline.config import load_parameters
from tauflow.dvc.lockfile import outputs, read_lock

SHIM = "TAUFLOW_FAULTS"
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}")


@dataclass(frozen=True)
class RunResult:
    """How a run ended: its exit code (negative for a signal), standard error, and the calls that count."""

    code: int
    error: str
    calls: int


@dataclass(frozen=True)
class FaultyStage:
    """A stage instance whose outputs are there, and their hashes."""

    name: str
    module: str
    good: dict[Path, str]

    def run(self, call: int, code: int) -> RunResult:
        """Run it in a fork whose ``call``-th write fails; 0 for none."""
        for path in self.good:
            path.unlink(missing_ok=True)  # as DVC does before
        with tempfile.TemporaryDirectory() as directory:
            log, count = Path(directory, "stderr"), Path(directory, "calls")
            child = os.fork()
            if child == 0:
                os._exit(self._in_fork(call, code, log, count))
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            return RunResult(status, log.read_text(), int(count.read_text()) if count.exists() else 0)

    def _in_fork(self, call: int, code: int, log: Path, count: Path) -> int:
        stderr = os.open(log, os.O_WRONLY | os.O_CREAT)
        os.dup2(stderr, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        shim: Any = ctypes.CDLL(os.environ[SHIM])
        sys.argv = [self.module, self.name]
        shim.fault_arm(os.fsencode(Path.cwd()), ctypes.c_long(call), code)
        result = 0
        try:
            runpy.run_module(self.module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            result = int(end.code or 0)
        except BaseException:
            result = 1
            traceback.print_exc()
        sys.stderr.flush()
        count.write_text(str(shim.fault_calls()))
        return result

    def problem(self, outcome: RunResult) -> str | None:
        """Return what is wrong with what a run with a fault left."""
        lines = [line for line in outcome.error.splitlines() if line.strip()]
        now = {path: _md5(path) for path in self.good if path.exists()}
        if outcome.code < 0:
            return f"died of signal {-outcome.code}"
        if "Traceback" in outcome.error:
            return f"traceback: {lines[-1]}"
        if outcome.code and len(lines) != 1:
            return f"{len(lines)} lines: {lines[:2]}"
        if left := [path for path in Path().rglob(".*") if _TEMPORARY.fullmatch(path.name) and path.is_file()]:
            for path in left:
                path.unlink()
            return f"left {left[0]}"
        if wrong := [path for path, md5 in now.items() if md5 != self.good[path]]:
            return f"half-written: {wrong[0]}"
        return "exit code 0, but outputs are missing" if outcome.code == 0 and now.keys() != self.good.keys() else None


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def read_stage(name: str) -> FaultyStage:
    """Return a stage instance with all files of its outputs."""
    instance = read_instances(load_parameters(PARAMETERS))[name]
    outs = [Path(out) for out in outputs(read_lock(Path())[name])]
    files = [file for out in outs for file in (sorted(out.rglob("*")) if out.is_dir() else [out]) if file.is_file()]
    module = "finetune" if instance.stage.startswith("finetune") else instance.stage
    return FaultyStage(name, f"stages.{module}", {file: _md5(file) for file in files})


def sample(calls: int, most: int | None) -> list[int]:
    """Return the numbers of the calls to fail: all, or at most this many, evenly spaced from first to last."""
    if most is None or calls <= most:
        return list(range(1, calls + 1))
    return sorted({1 + round(i * (calls - 1) / (most - 1)) for i in range(most)})


def fail_all(
    stages: list[str],
    most: Annotated[int | None, typer.Option("--calls", min=2, help="At most this many calls of each stage.")] = None,
    error: Annotated[str, typer.Option(help="ENOSPC or EIO.")] = "ENOSPC",
) -> None:
    """Fail writes of stage instances; exit code 1 if any left something wrong."""
    import open_clip  # noqa: F401  # pyright: ignore[reportUnusedImport] (once, for all forks)

    failures = total = 0
    for name in stages:
        stage = read_stage(name)
        undisturbed = stage.run(0, 0)
        if undisturbed.code:
            sys.exit(f"error: {name} fails undisturbed: {undisturbed.error.strip()}")
        stage = read_stage(name)  # the bytes of the present code
        numbers = sample(undisturbed.calls, most)
        problems = {number: stage.problem(stage.run(number, getattr(errno, error))) for number in numbers}
        wrong = {number: problem for number, problem in problems.items() if problem}
        again = stage.run(0, 0)
        if again.code or {path: _md5(path) for path in stage.good if path.exists()} != stage.good:
            wrong[0] = f"does not recover: {again.error.strip()[-200:]}"
        print(f"{name}: {len(numbers)} of {undisturbed.calls} calls failed with {error}, {len(wrong)} problems")
        for number, problem in wrong.items():
            print(f"  call {number}: {problem}")
        failures, total = failures + len(wrong), total + len(numbers)
    print(f"{total} faults, {failures} problems")
    sys.exit(1 if failures else 0)


def main() -> None:
    """Start again with the shim preloaded, once it is compiled."""
    if SHIM in os.environ:
        typer.run(fail_all)
        return
    with tempfile.TemporaryDirectory() as directory:
        shim = Path(directory, "fault.so")
        source = Path(__file__).with_name("fault.c")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(shim), str(source), "-ldl"], check=True)
        environment = {**os.environ, SHIM: str(shim), "LD_PRELOAD": str(shim), "TAUFLOW_TRACKER": "off"}
        sys.exit(subprocess.run([sys.executable, "-m", "tools.faults", *sys.argv[1:]], env=environment).returncode)


if __name__ == "__main__":
    main()
