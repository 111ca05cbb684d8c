"""``tauflow upgrade``: bring a study to the installed version."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from tauflow.commands.console import note, one_line_errors


def upgrade() -> None:
    """Merge the installed Tauflow's code, definitions and configuration into the study, and say what becomes stale.

    Git merges them: what you have not touched is replaced, your own files, parameters and results stay, and a file that
    both changed is named, with nothing changed. It ends with a commit; `git reset --hard HEAD~1` undoes it.
    """
    from tauflow.planning.stale import by_kind
    from tauflow.study.upgrade import upgrade_study  # imports a good part of DVC

    with one_line_errors():
        done = upgrade_study(Path())
    if not done.changed:
        print(f"The study has Tauflow {version('tauflow')} already.")
        return
    print(f"Tauflow {done.before} → {version('tauflow')}: {len(done.changed)} files changed, merged and committed")
    if done.stale:
        print("It makes stale:")
        print(*(f"  {line}" for line in by_kind(done.stale)), sep="\n")
    else:
        print("It makes nothing stale.")
    # In a process of its own, with the code that has just been merged.
    command = [sys.executable, "-m", "tauflow.cli", "check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    if checked.returncode:
        error = checked.stderr.strip().removeprefix("error: ")
        note(f"params.yaml does not fit this version: {error}; compose it again with `tauflow compose`")
