"""The context of a command: the repository, its tracking store, the environment of child processes."""

import io
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, unquote

PARAMETERS = Path("params.yaml")

# Variables with which git, for instance in a hook, selects a repository; its configuration variables are kept.
_GIT_LOCATIONS = {
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
}
_SQLITE = "sqlite:///"


def home() -> Path:
    """Return the repository that tracking belongs to.

    DVC runs queued experiments in temporary copies under ``.dvc/tmp/exps``; their runs belong to the repository that
    contains the copies.
    """
    here = Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()
    for directory in (here, *here.parents):
        if directory.parts[-3:] == (".dvc", "tmp", "exps"):
            return directory.parents[2]
    return here


def program_path(inherited: str) -> str:
    """Return ``PATH`` with this environment first: dvc.yaml runs `python`, and the environment may not be activated."""
    return f"{Path(sys.executable).parent}{os.pathsep}{inherited}"


def journals() -> Path:
    """Return the directory of the journals that the tracker has yet to log."""
    return home() / ".tauflow" / "journal"


def tracking_uri() -> str:
    """Return the MLflow store: ``MLFLOW_TRACKING_URI``, or SQLite in the repository."""
    path = (home() / "mlflow.db").as_posix()
    if quote(path) != path:  # MLflow creates the directories of an absolute path without decoding it
        path = Path(os.path.relpath(path)).as_posix()
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{quote(path)}"


def sqlite_path(uri: str) -> Path | None:
    """Return the file of an SQLite store; ``None`` for any other store."""
    return Path(unquote(uri.removeprefix(_SQLITE).partition("?")[0])) if uri.startswith(_SQLITE) else None


def git_environment() -> dict[str, str]:
    """Return the environment for git commands about the current directory, even in a hook of another repository."""
    return {name: value for name, value in os.environ.items() if name not in _GIT_LOCATIONS}


def git(*arguments: str) -> bytes | None:
    """Return the output of a git command in the current directory; ``None`` if it fails."""
    try:
        result = subprocess.run(["git", *arguments], capture_output=True, env=git_environment(), check=False)
    except OSError:  # git is not installed
        return None
    return result.stdout if result.returncode == 0 else None


def accept_any_terminal() -> None:
    """Make streams escape characters that the terminal's encoding lacks, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # other streams, such as a notebook's, are left alone
            stream.reconfigure(errors="backslashreplace")
