"""Time and peak memory of one training step: ordinary, through torch.func.jvp, our tangent propagation, with τJp.

    .venv/bin/python -m benchmarks.training_steps --model mini-clip --batch 64 --threads 1 --json steps.json

A step is one forward and backward pass, without the optimiser. In the table, with ratios to the ordinary step:

- time: the median; the variants run in turn (A B C … A B C …) in one process. CPU time, the sum over threads, is least
  affected by other work on the same cores.
- products: operations of the matrix products and convolutions alone, the floor of the time's ratio.
- memory: the peak above the memory held before the step, that is activations, gradients and other tensors of the step,
  but neither weights nor images; and the total peak. On the CPU it is that of the whole process with its libraries,
  and every variant is measured in a separate process; on a GPU it is that of the tensors.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peak_memory import REPEATABLE, peak_memory
from benchmarks.steps import TrainingStep, Workbench, Workload, variants

Rows = dict[str, dict[str, Any]]

# Heading and unit of each column.
COLUMNS = {
    "seconds": ("time, ms", 1e3),
    "cpu_seconds": ("CPU time, ms", 1e3),
    "images_per_second": ("images per second", 1),
    "products": ("products, GFLOP", 1e-9),
    "step_bytes": ("memory of the step, MiB", 2**-20),
    "total_bytes": ("memory in total, MiB", 2**-20),
}

# Targets: column, variant, reference, largest ratio. Those of the time are for the CPU.
TARGETS = [
    ("seconds", "tangent", "standard", 1.7),
    ("seconds", "tangent", "jvp", 0.6),
    ("seconds", "attention", "standard", 0.85),
    ("step_bytes", "tangent", "standard", 1.5),
]


class Precision(StrEnum):
    """Precision of activations; weights are fp32."""

    FP32 = "fp32"
    BF16 = "bf16"


def measure(setting: Workload, compared: list[str] | None, repeats: int) -> Rows:
    """Return every column, and (seconds, CPU seconds) of every repeat, by variant."""
    shapes_only = variants(Workbench(replace(setting, device="meta", precision=Precision.FP32)))
    names = ["standard", *compared] if compared else list(shapes_only)
    operations = {name: _products(shapes_only[name]) for name in names}
    steps = variants(Workbench(setting))
    if torch.device(setting.device).type == "cuda":
        memory = {name: _memory(steps[name], setting.device) for name in names}
    else:
        memory = {name: _memory_in_own_process(setting, name) for name in names}
    seconds = _timings({name: steps[name] for name in names}, repeats, setting.device)
    medians = {name: statistics.median(wall for wall, _ in repeated) for name, repeated in seconds.items()}
    return {
        name: {
            "seconds": medians[name],
            "images_per_second": setting.batch / medians[name],
            "cpu_seconds": statistics.median(cpu for _, cpu in repeated),
            "products": operations[name],
            **memory[name],
            "repeats": repeated,
        }
        for name, repeated in seconds.items()
    }


def _timings(steps: dict[str, TrainingStep], repeats: int, device: str) -> dict[str, list[tuple[float, float]]]:
    """Return seconds and CPU seconds of every repeat, after one warm-up per variant."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for repeat in range(repeats + 1):
        for name, step in steps.items():
            began, cpu_began = time.perf_counter(), time.process_time()
            step()
            if torch.device(device).type == "cuda":
                torch.cuda.synchronize()
            if repeat:
                seconds[name].append((time.perf_counter() - began, time.process_time() - cpu_began))
    return seconds


def _products(step: TrainingStep) -> int:
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def _memory(step: TrainingStep, device: str) -> dict[str, int]:
    peak = peak_memory(step, device)
    return {"step_bytes": peak.step, "total_bytes": peak.total}


def _memory_in_own_process(setting: Workload, variant: str) -> dict[str, int]:
    options = [(f"--{name.replace('_', '-')}", str(value)) for name, value in asdict(setting).items()]
    command = [sys.executable, "-m", "benchmarks.training_steps", "--memory-of", variant]
    command += [part for option in options for part in option]
    run = subprocess.run(command, env={**os.environ, **REPEATABLE}, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout)


def _ratio(rows: Rows, column: str, variant: str, reference: str = "standard") -> float:
    return rows[variant][column] / rows[reference][column]


def _table(rows: Rows, title: str) -> Table:
    table = Table("variant", *(heading for heading, _ in COLUMNS.values()), title=title)
    for name, row in rows.items():
        cells = [f"{row[key] * unit:.1f} ({_ratio(rows, key, name):.2f})" for key, (_, unit) in COLUMNS.items()]
        table.add_row(name, *cells)
    return table


def main(
    model: str = "mini-clip",
    batch: int = 64,
    size: Annotated[int, typer.Option(help="Height and width of the images.")] = 32,
    threads: int = 1,
    repeats: int = 10,
    device: str = "cpu",
    precision: Precision = Precision.FP32,
    other_batch: Annotated[int, typer.Option(help="Images of each other task for the τJp penalty.")] = 16,
    other_tasks: Annotated[int, typer.Option(help="Other tasks of the strict τJp penalty.")] = 8,
    variant: Annotated[
        list[str] | None, typer.Option(help="One to compare with the ordinary step; all if none.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
    memory_of: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Print the table and its ratios to the targets; with --json, write it."""
    setting = Workload(model, batch, size, threads, device, precision, other_batch, other_tasks)
    if memory_of:
        print(json.dumps(_memory(variants(Workbench(setting))[memory_of], device)))
        return
    rows = measure(setting, variant, repeats)
    console = Console()
    console.print(_table(rows, f"{model}, batch {batch}, {size} × {size}, {device}, {threads} thread(s), {precision}"))
    for column, name, reference, limit in TARGETS:
        if {name, reference} <= rows.keys():
            ratio = _ratio(rows, column, name, reference)
            console.print(f"{COLUMNS[column][0]}: {name} / {reference} = {ratio:.2f}, aimed at {limit} at most")
    if json_file:
        machine = platform.processor() or platform.machine()
        content = {**asdict(setting), "torch": torch.__version__, "machine": machine, "variants": rows}
        json_file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
