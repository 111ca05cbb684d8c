"""``tauflow plan`` and what ``dvc repro`` then does, in a small DAG and in the tiny suite."""

import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo
from dvc.repo.reproduce import plan_repro

from pipeline.errors import UserError
from tauflow.planning.stale import PlannedStage, by_kind, plan, unrecorded
from tests.pipeline.conftest import Project

pytestmark = [
    pytest.mark.pipeline,
    # DVC's own use of pygtrie.
    pytest.mark.filterwarnings("ignore:_NoneStep.value will soon raise:DeprecationWarning"),
]

DAG = """
stages:
  first:
    matrix:
      name: [a, b]
    cmd: echo ${item.name} ${suffix} > out/${item.name}
    deps:
      - code/${item.name}
    params:
      - numbers.${item.name}
    outs:
      - out/${item.name}
  second:
    cmd: cat out/a out/b > both
    deps:
      - out
    outs:
      - both
  third:
    cmd: wc -c both code/third > count
    deps:
      - both
      - code/third
    outs:
      - count
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two stages whose directory a third reads, and a fourth; all of them up to date."""
    project = Project(tmp_path_factory.mktemp("plan") / "project")
    for directory in ("code", "out"):
        (project.root / directory).mkdir(parents=True)
    for name in ("a", "b", "third"):
        (project.root / "code" / name).write_text(name)
    (project.root / "dvc.yaml").write_text(DAG)
    (project.root / "params.yaml").write_text("suffix: x\nnumbers:\n  a: {one: 1, two: 2}\n  b: {one: 1}\n")
    project.run("git", "init", "--quiet", ".")
    project.run("dvc", "init", "--quiet")
    project.repro()
    return project


@pytest.fixture
def small(ran: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A throw-away copy, which is also the current directory."""
    shutil.copytree(ran.root, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return Project(tmp_path / "copy")


def stale(targets: list[str] | None = None) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Reasons and predecessors of the stale stages."""
    return {stage.name: (stage.reasons, stage.after) for stage in plan(targets or []) if stage.stale}


def test_nothing_to_do(small: Project) -> None:
    assert stale() == {}
    assert [stage.name for stage in plan()] == ["first@a", "first@b", "second", "third"]


def test_never_run(small: Project) -> None:
    (small.root / "dvc.lock").unlink()
    assert stale() == {
        "first@a": (("never run",), ()),
        "first@b": (("never run",), ()),
        "second": (("never run",), ("first@a", "first@b")),
        "third": (("never run",), ("second",)),
    }


def test_never_run_here(small: Project) -> None:
    """As in a fresh clone: the lock is another machine's, and nothing that it names is here."""
    for path in ("out/a", "out/b", "both", "count"):
        (small.root / path).unlink()
    shutil.rmtree(small.root / ".dvc" / "cache")
    small.set_parameter("numbers.a.two", 3)  # what has not run here is compared with nothing
    assert {name: reasons for name, (reasons, _) in stale().items()} == dict.fromkeys(
        ("first@a", "first@b", "second", "third"), ("never run here",)
    )


def test_a_parameter_with_its_values(small: Project) -> None:
    small.set_parameter("numbers.a.two", 3)
    assert stale() == {
        "first@a": (("numbers.a.two: 2 → 3",), ()),
        "second": ((), ("first@a",)),
        "third": ((), ("second",)),
    }
    # The output of first@a stays the same, so that those after it need not run.
    assert small.repro() == ["first@a"]
    assert stale() == {}


def test_code_data_and_commands(small: Project) -> None:
    (small.root / "code" / "b").write_text("new")
    (small.root / "code" / "third").write_text("new")
    (small.root / "out" / "a").unlink()
    assert stale() == {
        "first@a": (("out/a missing",), ()),
        "first@b": (("code/b changed",), ()),
        "second": ((), ("first@a", "first@b")),
        "third": (("code/third changed",), ("second",)),
    }
    small.run("dvc", "checkout", "out/a")
    small.set_parameter("suffix", "y")  # part of the command only
    assert stale()["first@a"] == (("its command changed",), ())
    (small.root / "code" / "a").unlink()
    assert stale()["first@a"] == (("its command changed", "code/a missing"), ())


def test_targets_with_all_that_they_depend_on(small: Project) -> None:
    (small.root / "code" / "third").write_text("new")
    assert stale(["second"]) == {}
    assert [stage.name for stage in plan(["second"])] == ["first@a", "first@b", "second"]
    assert stale(["third"]) == {"third": (("code/third changed",), ())}
    with pytest.raises(UserError, match="'nosuch' not found") as error:
        plan(["nosuch"])
    assert "\n" not in str(error.value)


def test_without_artifacts_code_and_parameters_are_judged_alone(small: Project) -> None:
    """As in a fresh clone, where DVC finds every stage stale."""
    for path in ("out/a", "out/b", "both", "count"):
        (small.root / path).unlink()
    shutil.rmtree(small.root / ".dvc" / "cache")
    assert len(stale()) == 4
    assert unrecorded() == []
    small.set_parameter("numbers.a.two", 3)
    (small.root / "code" / "third").write_text("new")
    reasons = {stage.name: stage.reasons for stage in unrecorded()}
    assert reasons == {"first@a": ("numbers.a.two: 2 → 3",), "third": ("code/third changed",)}
    small.set_parameter("suffix", "y")
    assert by_kind(unrecorded()) == [
        "first: 2 stale: its command changed, and 1 more",
        "third: 1 stale: code/third changed",
    ]
    (small.root / "dvc.lock").unlink()
    assert by_kind(unrecorded())[1:] == ["second: 1 stale: never run", "third: 1 stale: never run"]


def test_the_order_is_dvcs(small: Project) -> None:
    with Repo() as repo:
        assert [stage.name for stage in plan()] == [stage.addressing for stage in plan_repro(repo.index.graph)]


def test_outside_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="plan: you are not inside of a DVC repository"):
        plan()


def test_kinds() -> None:
    assert PlannedStage("finetune@mini-clip-icons-ntk", (), ()).kind == "finetune"
    assert not PlannedStage("report", (), ()).stale


def change(path: Path) -> None:
    path.write_text(f"{path.read_text('utf-8')}# changed\n", encoding="utf-8")


def files(root: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in root.rglob("*")
        if path.is_file() and ".git/" not in str(path) and path.name != "dvc.lock.whole"  # the copy, as of any command
    }


def test_the_command_in_the_real_pipeline_writes_and_locks_nothing(clone: Project) -> None:
    change(clone.root / "stages" / "summary.py")
    clone.set_parameter("intervals.resamples", 201)
    with Repo(str(clone.root)) as repo, repo.lock:  # as while another command runs
        before = files(clone.root)
        output = clone.run("tauflow", "plan", "--wide").stdout
        assert files(clone.root) == before
        assert clone.run("dvc", "status", check=False).returncode != 0
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in output.splitlines() if line.strip()}
    assert lines["single_task@mini-clip-posthoc"] == "intervals.resamples: 200 → 201"
    assert lines["summary"].startswith("stages/summary.py changed; intervals.resamples: 200 → 201; after single_task@")
    assert lines["finetune"] == "0 2"
    assert lines["single_task"] == "3 0 intervals.resamples: 200 → 201"
    grouped = clone.run("tauflow", "plan").stdout
    assert "single_task@" not in grouped
    assert grouped.splitlines()[-1].startswith("--wide lists every instance")


def test_the_real_pipeline_runs_what_was_planned(clone: Project) -> None:
    assert "Nothing to do." in clone.run("tauflow", "plan").stdout
    change(clone.root / "stages" / "summary.py")
    output = clone.run("tauflow", "plan").stdout
    assert output.splitlines()[0].startswith("Suite tiny: 1 of ")
    assert clone.repro() == ["summary"]
