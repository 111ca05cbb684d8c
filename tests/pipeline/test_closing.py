"""The summary of `tauflow repro`: results of this run for these parameters, and their agreement with the commit."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.config import load_parameters
from pipeline.measurements import read_measurements, write_frame
from tauflow.dvc.composition import compose
from tests.pipeline.conftest import Project, copied, copy_project
from tests.stand_in import write_measurements

pytestmark = pytest.mark.pipeline

STUDY = ["suite=tiny", "paradigm=main", "paradigms=[standard,ntk]"]


def compose_and_measure(project: Project, overrides: Sequence[str], level: float = 0.5) -> None:
    """Compose a study whose stages before `summary` are taken as done."""
    compose(project.root, overrides)
    shutil.rmtree(project.root / "data" / "measurements", ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.root)
        write_measurements(Path(), load_parameters(Path("params.yaml")), level)


def commit(project: Project) -> None:
    project.run("git", "add", "--all")
    project.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "commit")


@pytest.fixture(scope="module")
def summarised(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose summary was made by the real stage and committed."""
    project = copy_project(tmp_path_factory.mktemp("closing") / "project")
    compose_and_measure(project, STUDY)
    first = project.run("tauflow", "repro", "-s", "summary")
    assert "committed" not in first.stdout  # nothing to agree with yet
    with (project.root / ".gitignore").open("a") as file:
        file.write("/data/measurements/\n")
    commit(project)
    return project


@pytest.fixture
def project(summarised: Project, tmp_path: Path) -> Project:
    """A throw-away copy."""
    return Project(copied(summarised.root, tmp_path / "copy"))


def test_the_summary_ends_with_its_table_and_names_no_report(project: Project) -> None:
    """Made, or found up to date."""
    for arguments in ("-f", "-s", "summary"), ("-s", "summary"):
        result = project.run("tauflow", "repro", *arguments)
        lines = result.stdout.splitlines()
        table = (project.root / "reports" / "summary.md").read_text().splitlines()
        assert [line for line in lines if line.startswith("|")] == [line for line in table if line.startswith("|")]
        assert "Table:   reports/summary.md" in lines
        assert "Numbers: reports/headlines.csv" in lines
        assert "Report:" not in result.stdout
        assert "reports/headlines.csv: all 62 numbers are the committed ones" in lines
        assert "warning" not in result.stderr


@pytest.mark.parametrize("arguments", [["--dry", "-s", "summary"], ["-s", "pretrained@mini-clip"]])
def test_a_run_that_makes_no_results_names_none(project: Project, arguments: list[str]) -> None:
    result = project.run("tauflow", "repro", *arguments)
    for heading in ("Table:", "Numbers:", "Report:", "| paradigm"):
        assert heading not in result.stdout


def change(project: Project, benchmark: str, metric: str, by: float) -> None:
    """Change the measurements of a paradigm, as another machine might."""
    path = project.root / "data" / "measurements" / "mini-clip" / "ntk" / f"{benchmark}.csv"
    frame = read_measurements(path)
    rows = (frame["benchmark"] == benchmark) & (frame["setting"] == "tuned") & (frame["metric"] == metric)
    frame.loc[rows, "value"] += by
    write_frame(path, frame)


def test_numbers_that_moved_as_between_machines_are_one_line(project: Project) -> None:
    change(project, "addition", "accuracy", 0.01)
    result = project.run("tauflow", "repro", "-s", "summary")
    line = result.stdout.splitlines()[-2]
    assert line.startswith("reports/headlines.csv: as committed, within what machines differ by (62 numbers: ")
    assert "3 inside" in line
    change(project, "negation", "alpha", 0.25)
    change(project, "negation", "target", 0.2)
    result = project.run("tauflow", "repro", "-s", "summary")
    line = result.stdout.splitlines()[-2]
    assert "within what machines differ by" in line
    assert "2 another choice of α" in line
    assert "3 outside, at another α" in line


def test_a_real_difference_stands_out(project: Project) -> None:
    change(project, "addition", "accuracy", 0.1)
    result = project.run("tauflow", "repro", "-s", "summary")
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("warning: reports/headlines.csv")]
    assert "3 of 62 numbers differ from the committed ones by more than machines do: mini-clip ntk 0 addition" in line
    assert "was 0.51 [0.49, 0.53], is 0.61 (and 2 more)" in line
    assert "`tauflow compare HEAD workspace`" in line


def test_another_study_is_compared_with_nothing(project: Project) -> None:
    compose_and_measure(project, [*STUDY, "seed=1"], level=0.7)
    result = project.run("tauflow", "repro", "-s", "summary")
    assert "Numbers: reports/headlines.csv" in result.stdout
    assert "committed" not in result.stdout + result.stderr


def test_a_sequence_that_showed_the_committed_studys_table(project: Project) -> None:
    """Composing another study and comparing before it has run shows nothing; afterwards its own."""
    compose_and_measure(project, ["suite=tiny", "paradigm=standard"], level=0.7)
    before = project.run("tauflow", "compare", check=False)
    assert (before.returncode, before.stdout) == (1, "")
    project.run("tauflow", "repro", "-s", "summary")
    assert "90.0 [88.0, 92.0]" in project.run("tauflow", "compare").stdout
    status = project.run("dvc", "status", "summary").stdout
    assert "summary:" not in status
