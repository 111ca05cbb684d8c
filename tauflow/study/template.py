"""The files of a study that come from Tauflow.

The build of the wheel runs this file by itself (tools/wheel_template.py), so it imports only the standard library.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

# What a study takes from the repository: code, definitions, configuration and the sources of the mini suite, but no
# results, and nothing of the project's own (tests, tools, documentation).
PATHS = (
    ".dvc/.gitignore",
    ".dvc/config",
    ".dvcignore",
    ".gitattributes",
    ".gitignore",
    "LICENSE",
    "artifacts",
    "benchmarks/records",
    "conf",
    "data/.gitignore",
    "data/mini",
    "dvc.yaml",
    "pipeline",
    "requirements.lock",
    "stages",
)
RECORD = "tauflow.json"
_README = Path("tauflow", "study", "STUDY.md")
# Left behind by Python, editors, and runs of `make mini-clip`.
_IGNORED = ("__pycache__", ".ipynb_checkpoints", "mini-clip.checkpoint.")


def template_files(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file of the template in a clone, and its path in a study. The record is not among them."""
    for name in PATHS:
        path = root / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not any(part.startswith(_IGNORED) for part in file.relative_to(root).parts):
                yield file, file.relative_to(root).as_posix()
    yield root / _README, "README.md"


def record_text(root: Path, version: str) -> str:
    """Return the record of a study: the version of Tauflow that its code is from, and the commit if git knows it."""
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = None
    return f"{json.dumps({'version': version, 'commit': commit}, indent=2)}\n"


def write_template(root: Path, version: str, directory: Path) -> None:
    """Write the files of a study into a directory.

    Args:
        root: a clone, or the template of an installed wheel.
        version: the version of Tauflow.
        directory: where to write.
    """
    if (root / RECORD).is_file():  # the wheel's template, which is complete
        shutil.copytree(root, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        return
    for file, name in template_files(root):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, directory / name)
    (directory / RECORD).write_text(record_text(root, version), encoding="utf-8")
