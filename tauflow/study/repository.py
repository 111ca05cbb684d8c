"""Run git in a study's repository; a failure is reported in git's own words."""

import subprocess
from pathlib import Path

from artifacts.workspace import git_environment
from pipeline.errors import UserError

# The author of commits on machines where git has no identity.
_NOBODY = ("-c", "user.name=Tauflow", "-c", "user.email=tauflow@localhost")


def run_git(directory: Path, *arguments: str) -> str:
    """Return what a git command prints in a directory.

    Raises:
        UserError: git is not installed, or the command fails.
    """
    words = ["git", "-C", str(directory), *arguments]
    try:
        result = subprocess.run(words, capture_output=True, text=True, env=git_environment(), check=False)
    except OSError:
        raise UserError("git is not installed; a study is a git repository") from None
    if result.returncode:
        lines = (result.stderr.strip() or result.stdout.strip()).splitlines()
        command = next(argument for argument in arguments if not argument.startswith("-") and "=" not in argument)
        raise UserError(f"git {command}: {' '.join(line.strip() for line in lines) or 'failed'}")
    return result.stdout


def commit(directory: Path, message: str) -> None:
    """Commit what is staged, under the user's name if git knows it."""
    run_git(directory, *_author(directory), "commit", "--quiet", "--no-verify", "--allow-empty", "--message", message)


def merge(directory: Path, commit: str, message: str) -> list[str]:
    """Merge a commit, and return the files in conflict; if there are any, nothing is changed.

    Raises:
        UserError: git refuses the merge.
    """
    try:
        run_git(directory, *_author(directory), "merge", "--quiet", "--no-ff", "--message", message, commit)
    except UserError:
        conflicts = run_git(directory, "diff", "--name-only", "--diff-filter=U").splitlines()
        if not conflicts:
            raise
        run_git(directory, "merge", "--abort")
        return conflicts
    return []


def _author(directory: Path) -> tuple[str, ...]:
    """Return git options for an unattended commit: no signature, and an author where git has none."""
    try:
        known = run_git(directory, "config", "user.email").strip()
    except UserError:
        known = ""
    return ("-c", "commit.gpgsign=false", *(() if known else _NOBODY))
