"""Start a study: a git and DVC repository with Tauflow's files, and parameters for a suite."""

import secrets
import shutil
from importlib.metadata import version
from pathlib import Path

from artifacts.workspace import PARAMETERS
from pipeline.errors import UserError
from tauflow.dvc.composition import compose
from tauflow.library_path import own_root
from tauflow.study.repository import commit, run_git
from tauflow.study.template import write_template

# The line of a commit's message by which `upgrade` finds the files that a study started from.
TRAILER = "Tauflow-Template:"


def start_study(directory: Path, suite: str | None) -> None:
    """Make a new directory a study. It appears whole, or not at all.

    Args:
        directory: the directory, which must not exist, or be empty.
        suite: a suite of ``conf/suite/``; by default that of ``conf/config.yaml``.

    Raises:
        UserError: the directory is not empty, lies in another repository, or cannot be written, or there is no such
            suite.
    """
    directory = directory.absolute()
    _check_place(directory)
    temporary = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{directory}: {error.strerror}; choose another directory") from None
    try:
        run_git(temporary, "init", "--quiet")
        commit_template(temporary)
        compose(temporary, [f"suite={suite}"] if suite else [])
        run_git(temporary, "add", PARAMETERS.name)
        commit(temporary, "Parameters")
        if directory.exists():
            directory.rmdir()
        temporary.rename(directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def commit_template(directory: Path) -> None:
    """Write the files of this Tauflow into a repository's empty working tree, and commit them."""
    write_template(own_root(), version("tauflow"), directory)
    run_git(directory, "add", "--all", "--force", ".")  # even what the user's global gitignore excludes
    commit(directory, f"Tauflow {version('tauflow')}\n\n{TRAILER} {version('tauflow')}")


def _check_place(directory: Path) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory}: exists and is not an empty directory; choose another one")
    above = next(parent for parent in directory.parents if parent.exists())
    try:
        repository = run_git(above, "rev-parse", "--show-toplevel").strip()
    except UserError:
        return
    raise UserError(
        f"{directory}: lies in the git repository {repository}; choose a place outside, as a study has its own"
    )
