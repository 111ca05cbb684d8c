"""Write journals for results without an MLflow run: restored from DVC's run cache, or pulled from a remote.

A stage that ran elsewhere left no journal here. Its numbers are in the tables that it wrote; its duration is not.
"""

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from artifacts import layout
from artifacts.catalogue import tables
from artifacts.tables import read_results
from pipeline.config import Parameters
from pipeline.errors import UserError
from pipeline.io.files import read_json
from pipeline.measurements import read_measurements, tracked_name
from tauflow.dvc.lockfile import Entry, flatten, outputs, parameters, read_lock, same_value
from tauflow.tracking.headlines import paradigm_headlines
from tauflow.tracking.journal import Journal
from tauflow.tracking.store import Store

# Columns of a training curve that are not metrics.
_NO_METRICS = ("step", "epoch")


def restore_journals(store: Store, params: Parameters) -> int:
    """Write a journal for each local result of ``params.yaml`` that has no MLflow run.

    Journals that are not logged yet do not count as runs.

    Returns:
        The number of journals.

    Raises:
        UserError: there is no ``dvc.lock``, or a table is damaged.
    """
    lock = read_lock(Path())
    if not lock:
        raise UserError("dvc.lock: missing or empty; run this from the root of the repository, after `dvc pull`")
    current = dict(flatten(params.model_dump(mode="json")))
    names = [
        name
        for name, entry in lock.items()
        if _is_current(entry, current) and _is_here(entry) and not store.knows(params.suite, name, entry)
    ]
    now, invocation = datetime.now(), f"restored {uuid.uuid4().hex}"
    for name in names:
        _write(name, lock[name], params, invocation, f"restored {now:%Y-%m-%d %H:%M}")
    return len(names)


def _is_current(entry: Entry, current: dict[str, Any]) -> bool:
    """Return whether the stage ran with the present parameters; the lock file keeps entries of other suites too."""
    return all(key in current and same_value(current[key], value) for key, value in parameters(entry).items())


def _is_here(entry: Entry) -> bool:
    """Return whether all outputs exist, and the files that numbers are read from have the recorded hash."""
    return all(
        _md5(Path(path)) == md5 if _is_table(path) else Path(path).exists() for path, md5 in outputs(entry).items()
    )


def _is_table(path: str) -> bool:
    return path.endswith((".csv", ".json"))


def _md5(path: Path) -> str | None:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() if path.is_file() else None


def _write(name: str, entry: Entry, params: Parameters, invocation: str, title: str) -> None:
    # As old as the lock file: the tracker ignores an entry that is older than the run.
    when = {"time": int(Path("dvc.lock").stat().st_mtime * 1000)}
    restored = {"tauflow.restored": "true"}
    journal = Journal.create(
        name=name,
        root=str(Path.cwd()),
        suite=params.suite,
        params={"seed": params.seed},
        tags={"tauflow.stage": name.partition("@")[0], "dvc.stage": name, **restored},
        invocation=invocation,
        invocation_name=title,
        invocation_tags=restored,
        revision=None,
        **when,
    )
    tracked = {str(written.path) for written in tables(params) if written.table.tracked}
    for path in outputs(entry):
        for step, values in _metrics(Path(path), path in tracked):
            journal.append("metrics", step=step, values=values, **when)
    if name == "summary":
        for headline in paradigm_headlines(params, read_results(params, headlines=True)):
            journal.paradigm(asdict(headline))
    journal.append("end", status="FINISHED", error=None, **when)


def _metrics(path: Path, tracked: bool) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the metrics that a stage would have logged while it wrote this file, by step."""
    if path.suffix == ".csv":
        if tracked:
            yield 0, _of_measurements(read_measurements(path))
        elif path.is_relative_to(layout.DATA / "training"):
            for row in pd.read_csv(path).to_dict("records"):
                yield int(row["step"]), {str(key): value for key, value in row.items() if key not in _NO_METRICS}
    elif path.name == "alpha.json":
        alpha = read_json(path)["alpha"]
        yield (
            0,
            {
                "alpha.addition": alpha["addition"],
                **{f"alpha.negation.{task}": value for task, value in alpha["negation"].items()},
            },
        )


def _of_measurements(table: pd.DataFrame) -> dict[str, float]:
    """Return the metrics under the names that stages log them by (docs/tracking.md)."""
    rows = table.to_dict("records")
    return {tracked_name(row): float(row["value"]) for row in rows if row["scope"] != "pair"}
