"""Results of several seeds, collected from real DVC experiments of a small repository."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from tauflow.comparing.seeds import collect
from tauflow.dvc.changes import changes
from tests.pipeline.conftest import Project

pytestmark = pytest.mark.pipeline

HEADER = (
    "version,model,paradigm,recipe,method,seed,benchmark,setting,scope,task,other,order,metric,value,ci_low,ci_high,n"
)
IDENTITY = {"suite": "s", "models": ["m"], "paradigms": ["p"], "tasks": ["a"], "control": "c", "settings": {}}
# Rows that name the tasks and the control.
OTHERS = [
    "single_task,none,task,a,,,accuracy,0.500000,,,",
    "zero_shot,none,task,a,,,accuracy,0.500000,,,",
    "zero_shot,none,task,c,,,accuracy,0.500000,,,",
]
STAGE = f"""
import json
import yaml
from pathlib import Path

params = yaml.safe_load(Path("params.yaml").read_text())
seed, lr = params["seed"], params["finetune"]["lr"]
start, end = f"3,m,p,,,{{seed}},addition,tuned,", f",,,accuracy,{{lr + seed / 10:.6f}},,,"
rows = [start + "task,a" + end, start + "mean," + end]
rows += [f"3,m,p,,,{{seed}},{{row}}" for row in {OTHERS}]
merged = Path("data/analyses/m/p/merging_grid")
merged.mkdir(parents=True, exist_ok=True)
row = f"3,m,p,,ties,{{seed}},merging,tuned,mean,,,,normalized,{{seed / 10:.6f}},,,"
(merged / "merging_grid.csv").write_text("\\n".join(["{HEADER}", row]) + "\\n")
Path("reports").mkdir(exist_ok=True)
Path("reports/headlines.csv").write_text("\\n".join(["{HEADER}", *rows]) + "\\n")
Path("reports/headlines.study.json").write_text(json.dumps({IDENTITY} | {{"seed": seed}}))
"""
DAG = """
stages:
  report:
    cmd: python stage.py
    deps: [stage.py]
    params: [seed, finetune]
    outs:
      - data/analyses/m/p/merging_grid
      - reports/headlines.csv:
          cache: false
      - reports/headlines.study.json:
          cache: false
"""
CONFIGURATION = "seed: 0\nfinetune:\n  lr: 0.5\n  epochs: 3\n"
CONFIGURATION += "derived:\n  merging_evaluations:\n    m-p:\n      model: m\n      paradigm: p\n"


def table(seed: int, lr: float = 0.5) -> str:
    """Return the outputs of the stage."""
    start, end = f"3,m,p,,,{seed},addition,tuned,", f",,,accuracy,{lr + seed / 10:.6f},,,"
    rows = [f"{start}task,a{end}", f"{start}mean,{end}", *(f"3,m,p,,,{seed},{row}" for row in OTHERS)]
    return "\n".join([HEADER, *rows]) + "\n"


def with_merging(seed: int) -> str:
    """Return what is collected of a seed whose merging methods are there, which the queue's are."""
    return table(seed) + f"3,m,p,,ties,{seed},merging,tuned,mean,,,,normalized,{seed / 10:.6f},,,\n"


def seeds(project: Project) -> dict[str, str]:
    """Return the collected tables, by file name."""
    return {path.name: path.read_text() for path in sorted((project.root / "reports" / "seeds").glob("*"))}


def put(project: Project, parameters: str, results: str) -> None:
    """Write these parameters and results, as the summary would."""
    (project.root / "params.yaml").write_text(parameters)
    (project.root / "reports" / "headlines.csv").write_text(results)
    identity = IDENTITY | {"seed": int(parameters.split()[1])}
    (project.root / "reports" / "headlines.study.json").write_text(json.dumps(identity))


def save(project: Project, name: str, parameters: str, results: str) -> None:
    """An experiment with these files, whatever made them; the working tree is left as it was."""
    put(project, parameters, results)
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
    project.commit("commit")
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
def messages() -> list[str]:
    """The lines that a collection has said."""
    return []


def experiments(project: Project) -> dict[int, str]:
    """The names that DVC gave to the queue's experiments, by seed."""
    names = project.run("dvc", "exp", "list", "--name-only").stdout.split()
    texts = {name: project.run("git", "show", revision(project, name) + ":params.yaml").stdout for name in names}
    return {int(text.split()[1]): name for name, text in texts.items() if name != "other-lr"}


def revision(project: Project, name: str) -> str:
    lines = project.run("git", "for-each-ref", "refs/exps").stdout.splitlines()
    (commit,) = [line.split()[0] for line in lines if line.endswith(f"/{name}")]
    return commit


def test_the_command_collects_every_seed_once_and_checks_nothing_out(project: Project) -> None:
    output = project.run("tauflow", "collect").stdout.splitlines()
    # Seeds 1 and 2 are read from DVC's cache; nothing of theirs is in the working tree.
    assert seeds(project) == {f"{seed}.csv": with_merging(seed) for seed in (0, 1, 2)}
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


def test_named_experiments_only(project: Project, messages: list[str]) -> None:
    names = experiments(project)
    assert set(names) == {0, 1, 2}
    assert collect([names[2], revision(project, names[1])[:10]], messages.append) == [1, 2]
    assert set(seeds(project)) == {"1.csv", "2.csv"}
    assert collect(["workspace", names[2]], messages.append) == [0, 2]
    assert seeds(project) == {"0.csv": with_merging(0), "2.csv": with_merging(2)}
    assert messages == ["removed reports/seeds/1.csv: not of this collection"]


def test_experiments_of_an_earlier_commit_must_be_named(project: Project, messages: list[str]) -> None:
    names = experiments(project)
    (project.root / "README").write_text("later")
    project.commit("commit")
    assert collect([], messages.append) == [0]
    assert collect(["workspace", *names.values()], messages.append) == [0, 1, 2]


@pytest.mark.parametrize("damage", ["missing", "another seed"])
def test_merging_methods_that_a_seed_lacks_are_left_out(project: Project, messages: list[str], damage: str) -> None:
    path = project.root / "data" / "analyses" / "m" / "p" / "merging_grid" / "merging_grid.csv"
    text = path.read_text()
    path.unlink()
    if damage == "another seed":
        path.write_text(text.replace("ties,0,", "ties,2,"))
    names = experiments(project)
    assert collect(["workspace", names[1]], messages.append) == [0, 1]
    assert messages == ["left out merging methods: seed 0 has none; run `tauflow repro merging_grid` with it"]
    assert seeds(project) == {"0.csv": table(0), "1.csv": table(1)}


def test_an_unknown_experiment(project: Project, messages: list[str]) -> None:
    with pytest.raises(UserError, match="no-such-name") as error:
        collect(["no-such-name"], messages.append)
    assert "\n" not in str(error.value)


def test_one_seed_with_two_results(project: Project, messages: list[str]) -> None:
    put(project, CONFIGURATION.replace("seed: 0", "seed: 1"), table(1, lr=0.3))
    with pytest.raises(UserError, match=r"seed 1: the results of workspace and .* differ"):
        collect([], messages.append)
    assert seeds(project) == {}


def test_a_working_tree_whose_results_are_of_another_seed_is_left_out(project: Project, messages: list[str]) -> None:
    (project.root / "params.yaml").write_text(CONFIGURATION.replace("seed: 0", "seed: 9"))
    assert collect([], messages.append) == [0, 1, 2]
    assert messages[0].startswith(
        "left out workspace: reports/headlines.csv: these are the results of another study, whose seed "
    )


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
        (table(4), "reports/headlines.csv: seed of its rows: 4, but of its study: 5"),
        ("", "reports/headlines.csv: not a table of measurements"),
        (table(5).replace("ci_low", "low"), "reports/headlines.csv: its columns are"),
        (table(5).replace("1.000000", "one"), "not a table of measurements"),
        (
            "\n".join(line for line in table(5).splitlines() if ",mean," not in line),
            "seed 5: no row for m p addition tuned mean accuracy",
        ),
    ],
)
def test_results_that_do_not_fit(project: Project, messages: list[str], results: str, message: str) -> None:
    put(project, CONFIGURATION.replace("seed: 0", "seed: 5"), results)
    with pytest.raises(UserError, match=message) as error:
        collect(["workspace", experiments(project)[1]], messages.append)
    assert "\n" not in str(error.value)
    assert seeds(project) == {}


@pytest.mark.parametrize("content", ["lr: 1\n", "seed: x\n", "a: [\n", ""])
def test_parameters_without_a_seed(project: Project, messages: list[str], content: str) -> None:
    (project.root / "params.yaml").write_text(content)
    with pytest.raises(UserError, match=r"^workspace: params\.yaml") as error:
        collect([], messages.append)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(project: Project, messages: list[str]) -> None:
    project.run("git", "rm", "--quiet", "reports/headlines.csv")
    project.commit("commit")
    with pytest.raises(UserError, match=r"HEAD: there is no reports/results\.csv"):
        collect(["HEAD"], messages.append)
    (project.root / "params.yaml").unlink()
    with pytest.raises(UserError, match=r"workspace: there is no params\.yaml"):
        collect([], messages.append)


def test_nothing_to_collect(project: Project, messages: list[str]) -> None:
    (project.root / "README").write_text("later")
    project.commit("commit")
    (project.root / "reports" / "headlines.csv").unlink()
    with pytest.raises(UserError, match="no results to collect"):
        collect([], messages.append)
    assert messages == ["left out workspace: there is no reports/headlines.csv; make it with `tauflow repro summary`"]


def test_outside_a_dvc_repository(project: Project, messages: list[str]) -> None:
    shutil.rmtree(project.root / ".dvc")
    with pytest.raises(UserError) as error:
        collect([], messages.append)
    assert "\n" not in str(error.value)


def test_a_project_in_a_folder_of_a_git_repository(tmp_path: Path, project: Project, messages: list[str]) -> None:
    """Paths in commits start at the repository's root, not at the project's."""
    (tmp_path / "git" / "project").mkdir(parents=True)
    inner = Project(tmp_path / "git" / "project")
    Project(tmp_path / "git").run("git", "init", "--quiet", "--initial-branch", "main", ".")
    inner.run("dvc", "init", "--quiet", "--subdir")
    (inner.root / "reports").mkdir()
    for name in ("dvc.yaml", "stage.py", "params.yaml", "reports/headlines.csv", "reports/headlines.study.json"):
        shutil.copy(project.root / name, inner.root / name)
    shutil.copytree(project.root / "data", inner.root / "data")
    inner.commit("commit")
    save(inner, "one", CONFIGURATION.replace("seed: 0", "seed: 1"), table(1))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(inner.root)
        assert collect([], messages.append) == [0, 1]
    assert seeds(inner) == {"0.csv": table(0), "1.csv": table(1)}
