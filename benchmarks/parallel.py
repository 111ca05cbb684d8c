"""Overhead of running stages at once: sleeping stages with `dvc repro` and with `tauflow repro --jobs`.

    .venv/bin/python -m benchmarks.parallel --stages 16 --seconds 40 --jobs 4 --json parallel.json

The stages are independent and only sleep, so they need no cores. The speed-up falls short of the number of jobs by the
cost of starting Ray, starting DVC for every stage, and waiting for DVC's lock. The table also has the time of a stage
from its start by Ray to its end; it sleeps for `--seconds` of that time.
"""

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from tauflow.dvc.composition import compose

ROOT = Path(__file__).parents[1]
# Target with four jobs.
SPEED_UP = 3.5


def make_project(root: Path, stages: int, seconds: float) -> None:
    """Create a repository of stages that sleep, with the (unused) parameters of the tiny suite."""
    shutil.copytree(ROOT / "conf", root / "conf")
    compose(root, ["suite=tiny"])
    nap = {
        "matrix": {"i": list(range(stages))},
        "cmd": f"sleep {seconds} && echo ${{item.i}} > nap${{item.i}}",
        "outs": ["nap${item.i}"],
    }
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"nap": nap}}), encoding="utf-8")
    subprocess.run(["git", "init", "--quiet", "."], cwd=root, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], cwd=root, check=True)


def timed(root: Path, *command: str) -> tuple[float, str]:
    """Return the duration of a command, and its output."""
    began = time.perf_counter()
    environment = {**os.environ, "TAUFLOW_TRACKER": "off"}
    run = subprocess.run(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return time.perf_counter() - began, run.stdout


def measure(stages: int, seconds: float, jobs: int) -> dict[str, Any]:
    """Measure both times, the time of a stage on Ray, and the load of the machine before each."""
    with tempfile.TemporaryDirectory() as directory:
        serial, parallel = Path(directory, "serial"), Path(directory, "parallel")
        for root in (serial, parallel):
            root.mkdir()
            make_project(root, stages, seconds)
        loads = [os.getloadavg()[0]]
        in_turn, _ = timed(serial, sys.executable, "-m", "dvc", "repro")
        loads.append(os.getloadavg()[0])
        at_once, output = timed(parallel, sys.executable, "-m", "tauflow.cli", "repro", "--jobs", str(jobs))
        if sorted(path.name for path in serial.glob("nap*")) != sorted(path.name for path in parallel.glob("nap*")):
            raise SystemExit("the two runs wrote different files")
    durations = [float(match) for match in re.findall(r"ran \(([\d.]+) s\)", output)]
    return {
        "serial_seconds": in_turn,
        "parallel_seconds": at_once,
        "stage_seconds": statistics.median(durations),
        "speed_up": in_turn / at_once,
        "loads": loads,
    }


def main(
    stages: int = 16,
    seconds: Annotated[float, typer.Option(help="How long a stage sleeps.")] = 40.0,
    jobs: int = 4,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Print the times and, with --json, write them."""
    row = measure(stages, seconds, jobs)
    table = Table("dvc repro, s", f"--jobs {jobs}, s", "one stage on Ray, s", "speed-up", "loads before")
    loads = ", ".join(f"{load:.1f}" for load in row["loads"])
    times = [f"{row[key]:.1f}" for key in ("serial_seconds", "parallel_seconds", "stage_seconds")]
    table.add_row(*times, f"{row['speed_up']:.2f}", loads)
    console = Console()
    console.print(table)
    if jobs == 4:
        console.print(f"speed-up {row['speed_up']:.2f}, aimed at {SPEED_UP} at least")
    if json_file:
        machine = platform.processor() or platform.machine()
        content = {"stages": stages, "seconds": seconds, "jobs": jobs, "machine": machine, **row}
        json_file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
