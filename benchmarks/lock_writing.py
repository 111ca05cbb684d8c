"""Cost of writing an entry of ``dvc.lock`` with DVC's own writer and with Tauflow's, in turn (A B A B).

    .venv/bin/python -m benchmarks.lock_writing --entries 400 --json lock.json

Entries of the committed lock are written again into a copy, whose entries are repeated under other names up to that
number. Seconds are CPU time, which other processes disturb little. Both writers must leave the same bytes.
"""

import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from dvc.utils.serialize import dumps_yaml, modify_yaml
from rich.console import Console
from rich.table import Table

from pipeline.io.files import write_text
from tauflow.dvc.lock_writer import updated

LOCK = Path("dvc.lock")


def by_dvc(path: Path, entries: dict[str, Any]) -> None:
    """Write entries as DVC does: all of the lock is parsed, and written again."""
    with modify_yaml(str(path)) as data:
        data["stages"].update(entries)


def by_tauflow(path: Path, entries: dict[str, Any]) -> None:
    """Write entries into the text of the lock."""
    text = updated(path.read_text(encoding="utf-8"), entries, str(path), path.with_name("form"))
    write_text(path, text)


def lock_of(count: int) -> dict[str, Any]:
    """Return the committed lock's entries, repeated or cut to this number."""
    stages = list(yaml.load(LOCK.read_text(encoding="utf-8"), yaml.CSafeLoader)["stages"].items())
    entries: dict[str, Any] = {}
    for number in range(count):
        name, entry = stages[number % len(stages)]
        # A copy, since YAML writes the same object a second time as an alias.
        entries[f"{name}-{number}" if number >= len(stages) else name] = deepcopy(entry)
    return entries


def seconds(writer: Callable[[Path, dict[str, Any]], None], path: Path, entries: dict[str, Any]) -> float:
    """Return the CPU seconds of one write."""
    began = time.process_time()
    writer(path, entries)
    return time.process_time() - began


def main(
    entries: Annotated[int, typer.Option(help="Stage instances in the lock.")] = 231,
    rounds: int = 3,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Measure both writers in turn and print medians; exit with code 1 if their bytes differ."""
    stages = lock_of(entries)
    written = dict(list(stages.items())[:: max(1, len(stages) // rounds)][:rounds])
    durations: dict[str, list[float]] = {"DVC": [], "Tauflow": []}
    with tempfile.TemporaryDirectory() as directory:
        theirs, ours = Path(directory, "theirs.lock"), Path(directory, "ours.lock")
        for path in (theirs, ours):
            path.write_text(dumps_yaml({"schema": "2.0", "stages": stages}), encoding="utf-8")
        size = theirs.stat().st_size
        first = seconds(by_tauflow, ours, {})  # checks the text, once
        for name, entry in written.items():
            durations["DVC"].append(seconds(by_dvc, theirs, {name: entry}))
            durations["Tauflow"].append(seconds(by_tauflow, ours, {name: entry}))
        if theirs.read_bytes() != ours.read_bytes():
            raise SystemExit("the two writers left different bytes")
    result = {
        "entries": entries,
        "bytes": size,
        "first": first,
        **{name: statistics.median(times) for name, times in durations.items()},
        "cpu": platform.processor() or platform.machine(),
    }
    table = Table(title=f"An entry into a lock of {entries} entries, {size / 1e3:.0f} kB: seconds of CPU")
    for column in ("DVC", "Tauflow", "ratio", "Tauflow, first time"):
        table.add_column(column, justify="right")
    ratio = result["DVC"] / result["Tauflow"]
    table.add_row(f"{result['DVC']:.3f}", f"{result['Tauflow']:.4f}", f"{ratio:.0f}", f"{first:.2f}")
    Console().print(table)
    if json_file:
        json_file.write_text(json.dumps(result, indent=2), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
