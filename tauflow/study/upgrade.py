"""Merge the files of the installed Tauflow into a study."""

import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pipeline.errors import UserError
from tauflow.library_path import RECORD, study_version
from tauflow.planning.stale import PlannedStage, unrecorded
from tauflow.study.repository import merge, run_git
from tauflow.study.start import TRAILER, commit_template


@dataclass(frozen=True)
class Upgrade:
    """The result of an upgrade.

    before: the version of Tauflow that the study's code was from.
    changed: the files that Tauflow changed, added or removed since; empty if the study already had this Tauflow's.
    stale: the stages for which ``dvc.lock`` now records other code, and did not before.
    """

    before: str
    changed: list[str]
    stale: list[PlannedStage]


def upgrade_study(study: Path) -> Upgrade:
    """Merge this Tauflow's files into a study, as ``git merge`` would: a change on one side only is kept.

    Results, parameters and the user's own files are not Tauflow's, so no merge touches them.

    Args:
        study: the study, which is also the current directory.

    Raises:
        UserError: the directory is not a study or has uncommitted changes, or a file was changed on both sides. Then
            nothing is changed.
    """
    before = study_version(study)
    if before is None:
        raise UserError(f"{RECORD}: not here; run `tauflow upgrade` in a study that `tauflow init` made, or `git pull`")
    if run_git(study, "status", "--porcelain", "--untracked-files=no").strip():
        raise UserError("upgrade: the study has uncommitted changes; commit them first, so that a merge can be undone")
    base = _template_commit(study)
    new = _commit_of_this_version(study, base)
    changed = run_git(study, "diff", "--name-only", base, new).splitlines()
    if not changed:
        return Upgrade(before, [], [])
    known = {stage.name for stage in unrecorded()}
    conflicts = merge(study, new, f"Merge Tauflow {version('tauflow')}")
    if conflicts:
        raise UserError(
            f"upgrade: changed here and in Tauflow: {', '.join(conflicts)}; nothing is merged yet. "
            f"`git merge {new[:12]}` starts the merge for you to settle"
        )
    return Upgrade(before, changed, [stage for stage in unrecorded() if stage.name not in known])


def _template_commit(study: Path) -> str:
    """Return the commit with the files of Tauflow that were merged last."""
    commit = run_git(study, "log", "-1", "--format=%H", f"--grep=^{TRAILER} ").strip()
    if not commit:
        raise UserError(f"upgrade: no commit says {TRAILER!r}; bring back the history of `tauflow init`")
    return commit


def _commit_of_this_version(study: Path, base: str) -> str:
    """Commit the files of this Tauflow on top of those that the study has, and return the commit."""
    with tempfile.TemporaryDirectory() as temporary:
        tree = Path(temporary) / "template"
        run_git(study, "worktree", "add", "--quiet", "--detach", "--no-checkout", str(tree), base)
        try:
            commit_template(tree)
            return run_git(tree, "rev-parse", "HEAD").strip()
        finally:
            run_git(study, "worktree", "remove", "--force", str(tree))
