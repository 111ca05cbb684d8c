"""Committed files, for tests that must not depend on what was composed or reproduced in the working tree since."""

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


@cache
def committed(path: str) -> str:
    """Return the text of a file in the last commit."""
    command = ["git", "show", f"HEAD:{path}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=True, encoding="utf-8").stdout


def committed_paths(directory: str) -> list[str]:
    """Return the files below a directory in the last commit."""
    command = ["git", "ls-tree", "-r", "--name-only", "HEAD", f"{directory}/"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=True, encoding="utf-8").stdout.splitlines()


def copy_committed(directory: Path, *paths: str) -> Path:
    """Write committed files below a directory, and return the directory."""
    for path in paths:
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(committed(path), encoding="utf-8")
    return directory
