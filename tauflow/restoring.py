"""Journals of results that no run of MLflow knows: restored from DVC's run cache, or pulled from a remote.

What ran elsewhere left no journal here. Its numbers are in the tables that it wrote; how long it took is not.
"""

import hashlib
import uuid
from collections.abc import Hashable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.config import Parameters
from pipeline.errors import UserError
from pipeline.files import read_json
from stages.tables import read_tables
from tauflow import layout
from tauflow.headlines import paradigm_headlines
from tauflow.journal import Journal
from tauflow.lockfile import Entry, flatten, outputs, parameters, read_lock
from tauflow.mlflow_store import Store

# The tables whose numbers their stages log: of one paradigm each, which the names of the metrics leave out.
_LOGGED_TABLES = ("single_task", "addition", "negation", "disentanglement", "interference")
# What a curve of steps has besides metrics.
_NO_METRICS = ("step", "epoch")


def restore_journals(store: Store, params: Parameters) -> int:
    """Write a journal for each result that is here, belongs to ``params.yaml`` and is unknown to MLflow.

    Journals that are not logged yet are not looked at.

    Returns:
        how many.

    Raises:
        UserError: there is no ``dvc.lock``, or a table is damaged.
    """
    lock = read_lock(Path())
    if not lock:
        raise UserError("dvc.lock: missing or empty; run this from the root of the repository, after `dvc pull`")
    current = dict(flatten(params.model_dump(mode="json")))
    found = [
        name
        for name, entry in lock.items()
        if _is_current(entry, current) and _is_here(entry) and not store.knows(params.suite, name, entry)
    ]
    now, invocation = datetime.now(), f"restored {uuid.uuid4().hex}"
    for name in found:
        _write(name, lock[name], current, invocation, f"restored {now:%Y-%m-%d %H:%M}")
    return len(found)


def _is_current(entry: Entry, current: dict[str, Any]) -> bool:
    """Whether it ran with the present parameters. The lock file keeps those of other suites too."""
    return all(key in current and _same(current[key], value) for key, value in parameters(entry).items())


def _same(ours: Any, locked: Any) -> bool:
    """YAML reads ``1e-3`` as text, the schema as a number."""
    return ours == (float(locked) if isinstance(ours, float) and isinstance(locked, str) else locked)


def _is_here(entry: Entry) -> bool:
    """Whether all outputs exist; of the files that numbers are read from, also that they are those of the entry."""
    return all(
        _md5(Path(path)) == md5 if _is_table(path) else Path(path).exists() for path, md5 in outputs(entry).items()
    )


def _is_table(path: str) -> bool:
    return path.endswith((".csv", ".json"))


def _md5(path: Path) -> str | None:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() if path.is_file() else None


def _write(name: str, entry: Entry, current: dict[str, Any], invocation: str, title: str) -> None:
    # As old as the lock file: the tracker takes an entry that is older than its run for that of another.
    when = {"time": int(Path("dvc.lock").stat().st_mtime * 1000)}
    restored = {"tauflow.restored": "true"}
    journal = Journal.create(
        name=name,
        root=str(Path.cwd()),
        suite=current["suite"],
        params={key: current[key] for key in parameters(entry)},
        tags={"tauflow.stage": name.partition("@")[0], "dvc.stage": name, **restored},
        invocation=invocation,
        invocation_name=title,
        invocation_tags=restored,
        revision=None,
        **when,
    )
    for path in outputs(entry):
        for step, values in _metrics(Path(path)):
            journal.append("metrics", step=step, values=values, **when)
    if name == "summary":
        results = pd.concat(read_tables(current["models"], current["paradigms"]), ignore_index=True)
        for model, paradigm, values in paradigm_headlines(results, current["models"]):
            journal.paradigm(model, paradigm, values)
    journal.append("end", status="FINISHED", error=None, **when)


def _metrics(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """What a stage would have logged while it wrote this file, by step."""
    if path.suffix == ".csv":
        table = pd.read_csv(path)
        if path.stem in _LOGGED_TABLES:
            yield 0, _of_measurements(table)
        elif path.is_relative_to(layout.DATA / "training"):
            for row in table.to_dict("records"):
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
    """The names that the stages log them under (docs/tracking.md)."""
    return {
        f"{row['benchmark']}{_setting(row)}.{row['metric']}.{row['task']}": float(row["value"])
        for row in table.to_dict("records")
        if "+" not in row["task"]
    }


def _setting(row: Mapping[Hashable, Any]) -> str:
    return "" if row["setting"] == "none" else f".{row['setting']}"
