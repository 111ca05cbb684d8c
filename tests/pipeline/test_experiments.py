"""Results of several seeds, collected from real DVC experiments of a small repository."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from tauflow.experiments import collect
from tauflow.revisions import changes
from tests.pipeline.conftest import Project

pytestmark = pytest.mark.pipeline

HEADER = "model,paradigm,seed,benchmark,setting,task,metric,value,ci_low,ci_high,n"
STAGE = f"""
import yaml
from pathlib import Path

params = yaml.safe_load(Path("params.yaml").read_text())
seed, lr = params["seed"], params["finetune"]["lr"]
rows = [f"m,p,{{seed}},addition,tuned,{{task}},accuracy,{{lr + seed / 10:.6f}},,," for task in ("a", "mean")]
Path("reports").mkdir(exist_ok=True)
Path("reports/results.csv").write_text("\\n".join(["{HEADER}", *rows]) + "\\n")
"""
DAG = """
stages:
  report:
    cmd: python stage.py
    deps: [stage.py]
    params: [seed, finetune]
    outs:
      - reports/results.csv:
          cache: false
"""
CONFIGURATION = "seed: 0\nfinetune:\n  lr: 0.5\n  epochs: 3\n"


def table(seed: int, lr: float = 0.5) -> str:
    """What the stage writes."""
    rows = [f"m,p,{seed},addition,tuned,{task},accuracy,{lr + seed / 10:.6f},,," for task in ("a", "mean")]
    return "\n".join([HEADER, *rows]) + "\n"


def commit(project: Project) -> None:
    project.run("git", "add", "--all")
    project.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "commit")


def seeds(project: Project) -> dict[str, str]:
    """What is collected, by file name."""
    return {path.name: path.read_text() for path in sorted((project.root / "reports" / "seeds").glob("*"))}


def save(project: Project, name: str, parameters: str, results: str) -> None:
    """An experiment with these files, whatever made them; the working tree is left as it was."""
    (project.root / "params.yaml").write_text(parameters)
    (project.root / "reports" / "results.csv").write_text(results)
    project.run("dvc", "exp", "save", "--quiet", "--name", name)
    project.run("git", "checkout", "--quiet", "--", ".")


@pytest.fixture(scope="module")
def queued(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Seed 0 in the working tree, seeds 0, 1 and 2 from the queue, and an experiment with another learning rate."""
    project = Project(tmp_path_factory.mktemp("experiments") / "project")
    project.root.mkdir()
    (project.root / "stage.py").write_text(STAGE)
    (project.root / "dvc.yaml").write_text(DAG)
    (project.root / "conf").mkdir()
    for path in ("params.yaml", "conf/config.yaml"):
        (project.root / path).write_text(CONFIGURATION)
    project.run("git", "init", "--quiet", "--initial-branch", "main", ".")
    project.run("dvc", "init", "--quiet")
    with (project.root / ".dvc" / "config").open("a") as config:
        config.write("[core]\n    analytics = false\n[hydra]\n    enabled = True\n")
    project.repro()
    commit(project)
    project.run("dvc", "exp", "run", "--quiet", "--queue", "-S", "seed=0,1,2")
    project.run("dvc", "exp", "run", "--run-all")
    save(project, "other-lr", CONFIGURATION.replace("0.5", "0.25"), table(0, lr=0.25))
    return project


@pytest.fixture
def project(queued: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A throw-away copy, which is also the current directory."""
    shutil.copytree(queued.root, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return Project(tmp_path / "copy")


@pytest.fixture
def said() -> list[str]:
    """The lines that a collection has said."""
    return []


def experiments(project: Project) -> dict[int, str]:
    """The names that DVC gave to the queue's experiments, by seed."""
    names = project.run("dvc", "exp", "list", "--name-only").stdout.split()
    texts = {name: project.run("git", "show", revision(project, name) + ":params.yaml").stdout for name in names}
    return {int(text.split()[1]): name for name, text in texts.items() if name != "other-lr"}


def revision(project: Project, name: str) -> str:
    lines = project.run("git", "for-each-ref", "refs/exps").stdout.splitlines()
    (found,) = [line.split()[0] for line in lines if line.endswith(f"/{name}")]
    return found


def test_the_command_collects_every_seed_once_and_checks_nothing_out(project: Project) -> None:
    output = project.run("tauflow", "collect").stdout.splitlines()
    assert seeds(project) == {f"{seed}.csv": table(seed) for seed in (0, 1, 2)}
    assert output == [
        "left out other-lr: not only its seed differs from params.yaml, but also finetune.lr",
        "reports/seeds: seeds 0, 1, 2; `tauflow repro -s report` pools them",
    ]
    assert project.run("git", "status", "--porcelain").stdout == "?? reports/seeds/\n"


def test_the_commands_error_is_one_line(project: Project) -> None:
    result = project.run("tauflow", "collect", "other-lr", check=False)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: other-lr: ")
    assert "finetune.lr" in line
    assert seeds(project) == {}


def test_named_experiments_only(project: Project, said: list[str]) -> None:
    names = experiments(project)
    assert set(names) == {0, 1, 2}
    assert collect([names[2], revision(project, names[1])[:10]], said.append) == [1, 2]
    assert set(seeds(project)) == {"1.csv", "2.csv"}
    assert collect(["workspace", names[2]], said.append) == [0, 2]
    assert seeds(project) == {"0.csv": table(0), "2.csv": table(2)}
    assert said == ["removed reports/seeds/1.csv: not of this collection"]


def test_experiments_of_an_earlier_commit_must_be_named(project: Project, said: list[str]) -> None:
    names = experiments(project)
    (project.root / "README").write_text("later")
    commit(project)
    assert collect([], said.append) == [0]
    assert collect(["workspace", *names.values()], said.append) == [0, 1, 2]


def test_an_unknown_experiment(project: Project, said: list[str]) -> None:
    with pytest.raises(UserError, match="no-such-name") as error:
        collect(["no-such-name"], said.append)
    assert "\n" not in str(error.value)


def test_one_seed_with_two_results(project: Project, said: list[str]) -> None:
    (project.root / "params.yaml").write_text(CONFIGURATION.replace("seed: 0", "seed: 1"))
    (project.root / "reports" / "results.csv").write_text(table(1, lr=0.3))
    with pytest.raises(UserError, match=r"seed 1: the results of workspace and .* differ"):
        collect([], said.append)
    assert seeds(project) == {}


def test_a_working_tree_whose_results_are_of_another_seed_is_left_out(project: Project, said: list[str]) -> None:
    (project.root / "params.yaml").write_text(CONFIGURATION.replace("seed: 0", "seed: 9"))
    assert collect([], said.append) == [0, 1, 2]
    assert said[0].startswith("left out workspace: reports/results.csv is of seeds [0], params.yaml of seed 9")


@pytest.mark.parametrize(
    ("ours", "theirs", "keys"),
    [
        ({"a": {"b": 1, "c": 2}, "d": 3}, {"d": 3, "a": {"c": 2, "b": 1}}, []),
        ({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 0, "c": 2}, "d": 4}, ["a.b", "d"]),
        ({"a": {"b": None}}, {"a": {}}, ["a.b"]),
        ({"a": {}}, {"a": {"b": None}}, ["a.b"]),
        ({"a": {"b": 1}}, {"a": 2}, ["a"]),
        ({"a": [1, 2]}, {"a": [2, 1]}, ["a"]),
        ({"seed": 0, "intervals": {"seed": 0}}, {"seed": 0, "intervals": {"seed": 1}}, ["intervals.seed"]),
    ],
)
def test_differing_entries(ours: dict[str, Any], theirs: dict[str, Any], keys: list[str]) -> None:
    assert [key for key, _, _ in changes(ours, theirs)] == keys


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (table(4), r"reports/results.csv is of seeds \[4\], params.yaml of seed 5"),
        ("", "reports/results.csv: no table of measurements"),
        (table(5).replace("ci_low", "low"), "reports/results.csv: its columns are"),
        (table(5).replace("1.000000", "one"), "no table of measurements"),
        ("\n".join(table(5).splitlines()[:2]), "seed 5: no m p addition tuned mean accuracy, which another seed has"),
    ],
)
def test_results_that_do_not_fit(project: Project, said: list[str], results: str, message: str) -> None:
    (project.root / "params.yaml").write_text(CONFIGURATION.replace("seed: 0", "seed: 5"))
    (project.root / "reports" / "results.csv").write_text(results)
    with pytest.raises(UserError, match=message) as error:
        collect(["workspace", experiments(project)[1]], said.append)
    assert "\n" not in str(error.value)
    assert seeds(project) == {}


@pytest.mark.parametrize("content", ["lr: 1\n", "seed: x\n", "a: [\n", ""])
def test_parameters_without_a_seed(project: Project, said: list[str], content: str) -> None:
    (project.root / "params.yaml").write_text(content)
    with pytest.raises(UserError, match=r"^workspace: params\.yaml") as error:
        collect([], said.append)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(project: Project, said: list[str]) -> None:
    project.run("git", "rm", "--quiet", "reports/results.csv")
    commit(project)
    with pytest.raises(UserError, match=r"HEAD: it has no reports/results\.csv"):
        collect(["HEAD"], said.append)
    (project.root / "params.yaml").unlink()
    with pytest.raises(UserError, match=r"workspace: it has no params\.yaml"):
        collect([], said.append)


def test_nothing_to_collect(project: Project, said: list[str]) -> None:
    (project.root / "README").write_text("later")
    commit(project)
    (project.root / "reports" / "results.csv").unlink()
    with pytest.raises(UserError, match="no results to collect"):
        collect([], said.append)
    assert said == ["left out workspace: it has no reports/results.csv; run it again, from the root of the repository"]


def test_outside_a_dvc_repository(project: Project, said: list[str]) -> None:
    shutil.rmtree(project.root / ".dvc")
    with pytest.raises(UserError) as error:
        collect([], said.append)
    assert "\n" not in str(error.value)


def test_a_project_in_a_folder_of_a_git_repository(tmp_path: Path, project: Project, said: list[str]) -> None:
    """Paths in commits start at the repository's root, not at the project's."""
    (tmp_path / "git" / "project").mkdir(parents=True)
    inner = Project(tmp_path / "git" / "project")
    Project(tmp_path / "git").run("git", "init", "--quiet", "--initial-branch", "main", ".")
    inner.run("dvc", "init", "--quiet", "--subdir")
    (inner.root / "reports").mkdir()
    for name in ("dvc.yaml", "stage.py", "params.yaml", "reports/results.csv"):
        shutil.copy(project.root / name, inner.root / name)
    commit(inner)
    save(inner, "one", CONFIGURATION.replace("seed: 0", "seed: 1"), table(1))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(inner.root)
        assert collect([], said.append) == [0, 1]
    assert seeds(inner) == {"0.csv": table(0), "1.csv": table(1)}
