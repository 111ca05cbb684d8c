"""Wrong `-S` of the real `dvc exp run` is one line that names the legal values, and changes nothing."""

import re

import pytest

from tests.pipeline.conftest import Project, copy_project

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Nothing has run in it, nor does anything here."""
    return copy_project(tmp_path_factory.mktemp("mistakes") / "project")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-S", "paradigm=nkt"], r"paradigm: 'nkt' is unknown; legal are all, attention, .*tau_jp_strict"),
        (["--queue", "-S", "suite=tny"], r"suite: 'tny' is unknown; legal are .*mini, .*tiny"),
        (["-S", "finetune.lrr=1"], r"unknown key 'finetune\.lrr'; legal keys here are lr, .*precision, .*batch_size.*"),
        (["-S", "finetune.lr=fast"], r"finetune\.lr: 'fast' is not legal: .*number.*"),
    ],
)
def test_a_mistake_is_one_line(project: Project, arguments: list[str], said: str) -> None:
    before = (project.root / "params.yaml").read_bytes()
    result = project.run("dvc", "exp", "run", *arguments, check=False)
    assert result.returncode != 0
    (line,) = result.stderr.splitlines()
    assert re.fullmatch(f"ERROR: {said}", line)
    assert result.stdout == ""
    assert (project.root / "params.yaml").read_bytes() == before
    assert project.run("git", "status", "--porcelain", "--untracked-files=no").stdout == ""
    assert project.run("git", "for-each-ref", "refs/exps").stdout == ""  # nothing is queued


def test_verbose_shows_the_traceback(project: Project) -> None:
    result = project.run("dvc", "exp", "run", "-v", "-S", "paradigm=nkt", check=False)
    assert result.returncode == 255
    assert "Traceback" in result.stderr
