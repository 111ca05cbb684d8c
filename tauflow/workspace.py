"""Where things are, from inside a stage, a DVC experiment or the command line."""

import os
import sys
from pathlib import Path

PARAMETERS = Path("params.yaml")
REPORT = Path("reports/index.html")


def home() -> Path:
    """The repository that tracking belongs to.

    DVC runs queued experiments in throw-away copies under ``.dvc/tmp/exps``; their runs belong to the repository
    that holds the copies.
    """
    here = Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()
    for directory in (here, *here.parents):
        if directory.parts[-3:] == (".dvc", "tmp", "exps"):
            return directory.parents[2]
    return here


def program_path(inherited: str) -> str:
    """``PATH`` with this environment's programs first: dvc.yaml says `python`, which may not be activated."""
    return f"{Path(sys.executable).parent}{os.pathsep}{inherited}"


def journals() -> Path:
    """Where stages write what the tracker has yet to log."""
    return home() / ".tauflow" / "journal"


def tracking_uri() -> str:
    """The MLflow store: ``MLFLOW_TRACKING_URI``, or SQLite in the repository."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"
