"""DVC's commands in this process, with a ``dvc.lock`` that is written fast and survives a kill at any moment."""

from collections.abc import Sequence
from pathlib import Path

from dvc.cli import main

from tauflow.dvc.guard import guard_lock, replace_files
from tauflow.dvc.lock_writer import install


def run_dvc(arguments: Sequence[str]) -> int:
    """Run a DVC command in this process; return its exit code."""
    install()
    replace_files()
    guard_lock(Path())
    try:
        return main(list(arguments))
    finally:
        guard_lock(Path())
