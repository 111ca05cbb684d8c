"""Check that files belong to the study: their bytes against ``dvc.lock``, their origin by their own metadata.

DVC recognises a changed file by its time and size. A stage must not compute a number from a file that is damaged but
keeps both, or from a valid file of another task, model or recipe in its place.
"""

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from artifacts.catalogue import TABLES
from artifacts.layout import DATA, REPORTS
from pipeline.errors import damaged
from tauflow.dvc.guard import LOCK, read_blocks

# Larger files are safetensors, which carry their own hash, or originals, whose record holds theirs.
MAX_BYTES = 10_000_000
# DVC's cache in its default place: asking DVC would cost each stage its import.
_CACHE = Path(".dvc", "cache", "files", "md5")
_OUTPUT = re.compile(
    r"^    - path: (?P<path>.+)\n(?:      hash: md5\n)?      md5: (?P<md5>[0-9a-f]{32}(?:\.dir)?)\n", re.M
)
# Paths of files, whose metadata must agree with them; correctness files of earlier versions lack some metadata.
# Imported vectors are checked by the stage that reads them, which says to import them again.
_PLACES = [
    re.compile(pattern)
    for pattern in (
        r"data/tasks/card/(?P<name>[^/]+)\.json",
        r"data/tasks/(?P<split>train|val|test)/(?P<task>[^/]+)\.safetensors",
        r"data/models/(?P<model>[^/]+)/\w+\.safetensors",
        r"data/heads/(?P<model>[^/]+)/(?P<task>[^/]+)\.safetensors",
        r"data/(?:checkpoints|task_vectors)/(?P<model>[^/]+)/(?P<recipe>[^/]+)/(?P<task>[^/]+)\.safetensors",
        r"data/features/(?P<split>[^/]+)/(?P<model>[^/]+)/(?P<recipe>[^/]+)/(?P<task>[^/]+)\.safetensors",
        r"data/correctness/(?P<model>[^/]+)/(?P<paradigm>[^/]+)/\w+\.safetensors",
    )
]
# Tables of measurements, whose rows name their model, and their paradigm or recipe.
_KEYS = {"order": "[^/]+"} | {key: f"(?P<{key}>[^/]+)" for key in ("model", "paradigm", "recipe")}
_TABLES = [re.compile(table.path(_KEYS).as_posix()) for table in TABLES if table.measurements]


def check_inputs(paths: Iterable[Path], makers: Iterable[str]) -> None:
    """Check files, and those in directories, below ``data/`` and ``reports/``; a missing one is left to its reader.

    Args:
        paths: relative to the study.
        makers: the stage instances whose outputs they can be; ``dvc.lock`` keeps those of other studies too.

    Raises:
        UserError: a file's bytes are not those that ``dvc.lock`` records, or it belongs to another task, model …
    """
    recorded, files = recorded_files(makers), list(filter(Path.is_file, _files(paths)))
    for path in files:
        check_origin(path)
        if path.as_posix() in recorded and path.stat().st_size < MAX_BYTES and _md5(path) != recorded[path.as_posix()]:
            raise damaged(path, f"damaged or changed, its content is not what {LOCK} records")
    for directory in {parent for path in files for parent in path.parents if parent.as_posix() in recorded}:
        inside = sorted(path for path in directory.rglob("*") if path.is_file())
        if (
            sum(path.stat().st_size for path in inside) < MAX_BYTES
            and _md5_of_all(directory, inside) != recorded[directory.as_posix()]
        ):
            raise damaged(directory, f"damaged or changed, its files are not what {LOCK} records")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _md5_of_all(directory: Path, files: Iterable[Path]) -> str:
    return directory_md5({path.relative_to(directory).as_posix(): _md5(path) for path in files})


def directory_md5(hashes: Mapping[str, str]) -> str:
    """Return DVC's hash of a directory, from the hashes of its files by path: that of their list."""
    content = json.dumps([{"md5": hashes[name], "relpath": name} for name in sorted(hashes)], sort_keys=True)
    return hashlib.md5(content.encode(), usedforsecurity=False).hexdigest() + ".dir"


def recorded_files(makers: Iterable[str]) -> dict[str, str]:
    """Return the MD5 that ``dvc.lock`` records for each output of these stage instances, by path.

    For a directory, these are the hashes of its files, from DVC's cache, or its own if the cache does not list them.
    """
    blocks = read_blocks(Path())
    hashes = {}
    for maker in makers:
        _, _, outs = blocks.get(maker, "").partition("\n    outs:\n")
        for match in _OUTPUT.finditer(outs):
            path, md5 = match["path"].strip("'\""), match["md5"]
            if md5.endswith(".dir"):
                hashes |= {f"{path}/{name}": each for name, each in (directory_files(md5) or {}).items()} or {path: md5}
            else:
                hashes[path] = md5
    return hashes


def directory_files(md5: str, cache: Path = _CACHE) -> dict[str, str] | None:
    """Return the hashes of a directory's files by path, from the list in DVC's cache; ``None`` if it is not there."""
    try:
        content = json.loads((cache / md5[:2] / md5[2:]).read_bytes())
    except (OSError, ValueError):
        return None
    return {entry["relpath"]: entry["md5"] for entry in content}


def check_origin(path: Path) -> None:
    """Check that a file belongs to the task, model, recipe … that its path names.

    A file that cannot be read passes: its reader says what is wrong with it.

    Raises:
        UserError: it belongs to another one.
    """
    expected = _place(path, _PLACES)
    origin = (_origin(path) if expected else None) or {}
    for key, value in expected.items():
        tasks = origin.get("tasks") if key == "task" else None
        actual = origin.get(key, origin.get("paradigm") if key == "recipe" else None)
        if tasks is not None:
            actual = "+".join(map(str, tasks))
        if actual is not None and actual != value:
            label = "task" if key == "name" else key
            raise damaged(path, f"belongs to {label} {str(actual)!r}, not to {value!r}")
    for key, value in _place(path, _TABLES).items():
        others = _named(path, key) - {value, ""}
        if others:
            raise damaged(path, f"belongs to {key} {min(others)!r}, not to {value!r}")


def _place(path: Path, places: Iterable[re.Pattern[str]]) -> dict[str, str]:
    """Return the model, task … that a path names."""
    matches = (place.fullmatch(path.as_posix()) for place in places)
    return next((match.groupdict() for match in matches if match), {})


def _named(path: Path, column: str) -> set[str]:
    """Return the names in a column of a table; none if it cannot be read or has no such column."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row.get(column) or "" for row in csv.DictReader(file)}
    except (OSError, ValueError, csv.Error):
        return set()


def _origin(path: Path) -> Mapping[str, Any] | None:
    """Return a file's metadata; ``None`` if it has none that can be read."""
    try:
        if path.suffix == ".json":
            content = json.loads(path.read_bytes())
        else:
            from pipeline.io.arrays import METADATA_KEY  # imports numpy

            with path.open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(size)) if size < MAX_BYTES else {}
            content = json.loads(header["__metadata__"][METADATA_KEY])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.parts[0] in (DATA.name, REPORTS.name):
            yield from (each for each in sorted(path.rglob("*")) if each.is_file()) if path.is_dir() else [path]
