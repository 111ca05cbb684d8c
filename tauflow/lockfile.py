"""What ``dvc.lock`` says of stage instances: hashes of what they read and wrote, and their parameters."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

# Of a stage instance: its command, dependencies, parameters and outputs.
Entry = dict[str, Any]

# Several times as fast as the loader in Python, where PyYAML was built with it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# DVC writes the file in place, for a second or so; and for how long a stream of writes is waited for.
SETTLED_SECONDS = 1.0
PATIENCE_SECONDS = 10.0


def read_lock(root: Path) -> dict[str, Entry]:
    """The entries of a working copy by stage instance; none if the file is missing or just being written."""
    try:
        content = yaml.load((root / "dvc.lock").read_text(encoding="utf-8"), _LOADER)
    except (FileNotFoundError, yaml.YAMLError):
        return {}
    stages = content.get("stages") if isinstance(content, dict) else None
    return {name: entry for name, entry in (stages or {}).items() if isinstance(entry, dict)}


def read_settled_lock(root: Path) -> dict[str, Entry]:
    """The same once nobody is writing it: half a file is often valid YAML, with fewer entries."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and _age(root / "dvc.lock") < SETTLED_SECONDS:
        time.sleep(SETTLED_SECONDS / 5)
    return read_lock(root)


def outputs(entry: Entry) -> dict[str, str]:
    """The hashes of what a stage instance wrote, by path."""
    return {out["path"]: out.get("md5", "") for out in entry.get("outs", [])}


def parameters(entry: Entry) -> dict[str, Any]:
    """What a stage instance ran with, by dotted name."""
    return {key: value for content in entry.get("params", {}).values() for key, value in flatten(content)}


def flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings by dotted name."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime if path.exists() else SETTLED_SECONDS
