"""Read ``dvc.lock``: the hashes of each stage instance's inputs and outputs, and its parameters."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.config.reading import MAX_BYTES_OF_LOCK, parse_yaml, read_yaml
from pipeline.errors import UserError

# A stage instance's command, dependencies, parameters and outputs.
Entry = dict[str, Any]

# String fields of a file's entry; an optional one has a default.
_FILE = {"path": None, "md5": ""}

# DVC writes the file in place: the age from which it counts as complete, and the maximum wait.
SETTLED_SECONDS = 1.0
MAX_WAIT_SECONDS = 10.0


def read_lock(root: Path) -> dict[str, Entry]:
    """Return a working copy's entries by stage instance; empty if the file is missing or incomplete."""
    try:
        content = read_yaml(root / "dvc.lock", MAX_BYTES_OF_LOCK)
    except (FileNotFoundError, UserError):
        return {}
    return _entries(content)


def parse_lock(content: bytes | None) -> dict[str, Entry]:
    """Return the entries of a file's content, such as that of a commit; empty if there is none or it is incomplete."""
    try:
        return _entries(parse_yaml((content or b"").decode("utf-8"), "dvc.lock"))
    except (UnicodeDecodeError, UserError):
        return {}


def read_lock_strictly(root: Path) -> dict[str, Entry]:
    """Return a working copy's entries as :func:`read_lock` does, but refuse a file that is damaged.

    Raises:
        UserError: the file is not valid YAML, as during a merge.
    """
    try:
        return _entries(read_yaml(root / "dvc.lock", MAX_BYTES_OF_LOCK))
    except FileNotFoundError:
        return {}


def _entries(content: object) -> dict[str, Entry]:
    stages = content.get("stages") if isinstance(content, dict) else None
    entries = stages.items() if isinstance(stages, dict) else ()
    return {name: _whole(entry) for name, entry in entries if isinstance(entry, dict)}


def _whole(entry: Entry) -> Entry:
    """Return an entry without what is not in DVC's form."""
    files = {key: list(filter(_is_file, _list(entry[key]))) for key in ("deps", "outs") if key in entry}
    params = entry.get("params")
    sections = params.items() if isinstance(params, dict) else ()
    kept = {"params": {name: keys for name, keys in sections if isinstance(keys, dict)}} if "params" in entry else {}
    return {**entry, **files, **kept}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_file(item: object) -> bool:
    return isinstance(item, dict) and all(isinstance(item.get(key, default), str) for key, default in _FILE.items())


def read_settled_lock(root: Path) -> dict[str, Entry]:
    """Return the entries once the file is complete: an incomplete file is often valid YAML with fewer entries."""
    deadline = time.monotonic() + MAX_WAIT_SECONDS
    while time.monotonic() < deadline and _age(root / "dvc.lock") < SETTLED_SECONDS:
        time.sleep(SETTLED_SECONDS / 5)
    return read_lock(root)


def outputs(entry: Entry) -> dict[str, str]:
    """Return the hashes of a stage instance's outputs by path."""
    return {out["path"]: out.get("md5", "") for out in entry.get("outs", [])}


def parameters(entry: Entry) -> dict[str, Any]:
    """Return the parameters of a stage instance by dotted name."""
    return {key: value for content in entry.get("params", {}).values() for key, value in flatten(content)}


def same_value(ours: object, locked: object) -> bool:
    """Return whether a parameter equals the recorded one. YAML reads ``1e-3`` as text, the schema as a number."""
    return ours == (float(locked) if isinstance(ours, float) and isinstance(locked, str) else locked)


def flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings with their dotted names."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime if path.exists() else SETTLED_SECONDS
