"""Commands show results of their own parameters only; those of another study are refused in one line."""

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
import typer
import yaml
from dvc.dependency.base import Dependency
from dvc.repo import Repo
from dvc.stage import Stage
from rich.console import Console

from artifacts.identity import StudyIdentity, headline_identity, study_identity
from pipeline.config import Parameters, load_parameters
from pipeline.errors import UserError
from tauflow.commands.output import fit
from tauflow.comparing.seeds import collect
from tauflow.dvc.composition import compose
from tests.cli.conftest import Run
from tests.conftest import ROOT
from tests.docs.pages import PAGES
from tests.stand_in import write_measurements
from tools.update_readme import BEGIN, END
from tools.update_readme import main as update_readme

TASKS = ("optdigits", "textures")
TINY = ["suite=tiny", "paradigm=main", "paradigms=[standard,ntk]"]


def summarise(overrides: Sequence[str], level: float = 0.5) -> None:
    """Compose a study in the current directory, and let the real stage `summary` join its stand-in measurements."""
    compose(ROOT, overrides, Path("params.yaml"))
    write_measurements(Path(), load_parameters(Path("params.yaml")), level)
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "TAUFLOW_TRACKER": "off"}
    subprocess.run([sys.executable, "-m", "stages.summary", "summary"], check=True, env=environment)


@pytest.fixture(scope="module")
def summarised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in git in which the tiny study was summarised."""
    root = tmp_path_factory.mktemp("summarised")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        subprocess.run(["git", "init", "--quiet", "."], check=True)
        subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True)
        Path("dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
        Path(".gitignore").write_text("/data\n/.tauflow\n")
        summarise(TINY)
    return root


@pytest.fixture
def tiny(summarised: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A throw-away copy, which is also the current directory."""
    shutil.copytree(summarised, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")


def commit() -> None:
    subprocess.run(["git", "add", "--all"], check=True)
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "x"], check=True)


def test_compare_shows_the_study_of_params_yaml(tiny: None, run: Run) -> None:
    result = run("compare", "--format", "markdown")
    assert result.exit_code == 0, result.output
    assert "70.0 [68.0, 72.0]" in result.output
    assert run("compare").output.startswith("Suite tiny, mini-clip, seed 0: means over 2 tasks, in %\n")


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["suite=mini", "paradigm=main", "paradigms=[standard,ntk]"], "suite is tiny; params.yaml has mini ("),
        ([*TINY, "tasks=[optdigits,shapes]", "+epochs.shapes=3"], "tasks is optdigits, "),
        ([*TINY, "control=shapes"], "control is emoji; params.yaml has shapes"),
        ([*TINY[:2], "paradigms=[standard]"], "paradigms is standard, ntk; params.yaml has standard"),
        ([*TINY, "seed=3"], "seed is 0; params.yaml has 3"),
        # The same names and other numbers.
        ([*TINY, "finetune.lr=0.01"], "finetune.lr is None; params.yaml has 0.01"),
        ([*TINY, "prepare.max_images=50"], "prepare.max_images is 96; params.yaml has 50"),
        ([*TINY, "search.control_retention=0.9"], "search.control_retention is 0.95; params.yaml has 0.9"),
        ([*TINY, "epochs.textures=1"], "epochs.textures is 3; params.yaml has 1"),
        ([*TINY, "schedule.ntk.length=2"], "recipe.ntk.schedule.length is 1.0; params.yaml has 2.0"),
        ([*TINY, "paradigm.ntk.evaluated_in=weight"], "paradigm.ntk.evaluated_in is tangent; params.yaml has weight"),
        ([*TINY, "intervals.resamples=10"], "intervals.resamples is 200; params.yaml has 10"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
@pytest.mark.parametrize("command", [["compare"], ["compare", "--literature"], ["compare", "workspace"]], ids=" ".join)
def test_results_of_another_study_are_refused(
    tiny: None, run: Run, command: list[str], overrides: list[str], named: str
) -> None:
    compose(ROOT, overrides, Path("params.yaml"))
    result = run(*command)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert "reports/headlines.csv: these are the results of another study, whose " in line
    assert named in line
    assert "`tauflow repro summary`" in line


@pytest.mark.parametrize("override", ["device=cpu", "evaluation.batch_size=10", "resume.interval=7", "analysis.seed=1"])
def test_parameters_that_change_no_headline_change_no_identity(tiny: None, run: Run, override: str) -> None:
    compose(ROOT, [*TINY, override], Path("params.yaml"))
    assert run("compare").exit_code == 0


@pytest.mark.parametrize("text", ["", "{}", "[]", "no JSON"])
def test_an_identity_that_is_damaged(tiny: None, run: Run, text: str) -> None:
    Path("reports/headlines.study.json").write_text(text)
    result = run("compare")
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: reports/headlines.csv: the file beside it does not say whose results these are; ")


def rewrite_row(column: str, before: str, after: str) -> None:
    path = Path("reports/headlines.csv")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert before in table[column].to_list()
    table.replace({column: {before: after}}).to_csv(path, index=False)


@pytest.mark.parametrize(
    ("column", "before", "after", "named"),
    [
        ("seed", "0", "7", "seed of its rows: 7, but of its study: 0"),
        ("model", "mini-clip", "other", "models of its rows: other, but of its study: mini-clip"),
        ("paradigm", "ntk", "tau_jp", "paradigms of its rows: standard, tau_jp, but of its study: standard, ntk"),
        ("task", "textures", "shapes", "tasks of its rows: optdigits, shapes, but of its study: optdigits, textures"),
        ("task", "emoji", "shapes", "control of its rows: shapes, but of its study: emoji"),
    ],
)
@pytest.mark.parametrize("command", [["compare"], ["compare", "workspace"]], ids=" ".join)
def test_a_table_beside_another_tables_identity(
    tiny: None, run: Run, command: list[str], column: str, before: str, after: str, named: str
) -> None:
    rewrite_row(column, before, after)
    result = run(*command)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert f"reports/headlines.csv: {named}; " in line


TASK, MODEL = "pipeline/definitions/tasks/textures.yaml", "pipeline/definitions/models/mini-clip"


def ran_on(path: str, md5: str | None) -> dict[str, object]:
    return {"cmd": "x", "deps": [{"path": path, "md5": md5, "size": 1}]}


def record_definitions() -> None:
    """Let ``dvc.lock`` record that stages of the study ran with the definitions, by DVC's own hashes."""
    for path in map(Path, (TASK, MODEL)):
        path.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / path).is_dir() else shutil.copy)(ROOT / path, path)
    definitions = {"prepare@textures": TASK, "addition@mini-clip-ntk": MODEL}
    with Repo() as repo:
        hashes = {name: Dependency(Stage(repo), path).get_hash().value for name, path in definitions.items()}
    stages = {name: ran_on(path, hashes[name]) for name, path in definitions.items()}
    # An analysis and the report, which the table does not wait for, and a stage of another study.
    for name in ("geometry@mini-clip-ntk", "report", "addition@mini-clip-tau_jp"):
        stages[name] = ran_on(MODEL, "0" * 32 + ".dir")
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (TASK, lambda text: text.replace("classes:", "classes: # reordered", 1)),
        (f"{MODEL}/model.yaml", lambda text: text + "# another\n"),
        (f"{MODEL}/ViT-mini-8.json", lambda text: text + "\n"),
    ],
)
def test_results_of_definitions_that_have_changed_are_refused(
    tiny: None, run: Run, path: str, change: Callable[[str], str]
) -> None:
    record_definitions()
    commit()
    assert run("compare").exit_code == 0
    file = Path(path)
    text = file.read_text()
    file.write_text(change(text))
    assert file.read_text() != text
    named = TASK if path == TASK else MODEL
    result = run("compare")
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line == (
        f"error: reports/headlines.csv: these are the results of another {named}, which has changed since; "
        "run `tauflow repro summary`"
    )
    # The commit holds the definitions that its results are of; one that holds others is refused as well.
    assert run("compare", "HEAD").exit_code == 0
    commit()
    result = run("compare", "HEAD")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"HEAD: reports/headlines.csv: these are the results of another {named}, " in result.stderr
    file.unlink()
    assert run("compare").exit_code == 1


TEST_IMAGES, VECTORS = "data/tasks/test", "data/task_vectors/mini-clip/standard"
ALPHA = "reports/mini-clip/standard/alpha.json"
# Stage instances of the tiny study that `compare` waits for, or `evaluate`: what they read and write.
RUNS: dict[str, tuple[list[str], list[str]]] = {
    **{f"prepare@{task}": ([], [f"{TEST_IMAGES}/{task}.safetensors"]) for task in ("optdigits", "textures", "emoji")},
    **{f"task_vector@mini-clip-{task}-standard": ([], [f"{VECTORS}/{task}.safetensors"]) for task in TASKS},
    "single_task@mini-clip-standard": ([TEST_IMAGES, VECTORS], []),
    "alpha_search@mini-clip-standard": ([], [ALPHA]),
    "addition@mini-clip-standard": ([ALPHA], ["data/measurements/mini-clip/standard/addition.csv"]),
    "geometry@mini-clip-standard": ([VECTORS], []),
    "summary": ([], ["reports/headlines.csv"]),
}


def record_runs(names: Sequence[str] = tuple(RUNS)) -> None:
    """Let ``dvc.lock`` record that stages ran on what is there, by DVC's own hashes; make what is not there."""
    lock = Path("dvc.lock")
    recorded = yaml.safe_load(lock.read_text())["stages"] if lock.exists() else {}
    for path in (Path(path) for name in names for path in RUNS[name][1]):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(f"{path} 1\n")
    with Repo() as repo:

        def hashes(paths: Sequence[str]) -> list[dict[str, object]]:
            return [{"path": path, "md5": Dependency(Stage(repo), path).get_hash().value, "size": 1} for path in paths]

        for name in names:
            recorded[name] = {"cmd": name, "deps": hashes(RUNS[name][0]), "outs": hashes(RUNS[name][1])}
    lock.write_text(yaml.safe_dump({"schema": "2.0", "stages": recorded}))


def run_again(stage: str, content: str = "2") -> None:
    """Let one stage write other outputs, as if everything after it had been killed."""
    for path in RUNS[stage][1]:
        Path(path).write_text(content)
    record_runs([stage])


@pytest.mark.parametrize(
    ("stage", "named"),
    [
        ("prepare@textures", TEST_IMAGES),
        ("task_vector@mini-clip-textures-standard", VECTORS),
        ("alpha_search@mini-clip-standard", ALPHA),
    ],
)
def test_results_that_are_older_than_their_inputs_are_refused(tiny: None, run: Run, stage: str, named: str) -> None:
    """A definition changed, say, preparation and training ran again, and the evaluation was killed."""
    record_runs()
    assert run("compare").exit_code == 0
    run_again(stage)
    commit()
    for command, where in (["compare"], ""), (["compare", "HEAD"], "HEAD: "):
        result = run(*command)
        assert (result.exit_code, result.stdout) == (1, "")
        (line,) = result.stderr.splitlines()
        assert line.startswith(
            f"error: {where}reports/headlines.csv: these are the results of another {named}, which has changed since; "
        )
    record_runs()
    assert run("compare").exit_code == 0


def test_a_table_of_another_commit_is_refused(tiny: None, run: Run) -> None:
    record_runs()
    rewrite_row("value", "0.700000", "0.900000")
    commit()
    for command in ["compare"], ["compare", "HEAD"]:
        result = run(*command)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "reports/headlines.csv: not the table that dvc.lock records; " in result.stderr


ODD_LOCKS = [
    "stages:\n  summary: [1]\n  addition@mini-clip-ntk:\n    deps: 3\n    outs: 4\n    params: 5\n",
    "stages:\n  summary:\n    deps: [3, {md5: a}]\n    outs: [{path: 3}]\n    params: {params.yaml: 3}\n",
    "stages:\n  addition@mini-clip-ntk:\n    deps: [{path: data/tasks/test, md5: 3}, {path: data/tasks/test}]\n",
    "stages:\n",
]


@pytest.mark.parametrize("text", ODD_LOCKS)
def test_a_lock_of_odd_entries_is_no_traceback(tiny: None, run: Run, text: str) -> None:
    Path("dvc.lock").write_text(f"schema: '3.0'\n{text}")
    assert run("compare").exit_code == 0
    assert run("evaluate", "--edit", "textures=1").stderr.startswith("error: data/models/mini-clip/image_encoder")


def test_a_lock_in_the_middle_of_a_merge_is_refused(tiny: None, run: Run) -> None:
    Path("dvc.lock").write_text("<<<<<<< HEAD\nschema: '2.0'\n=======\n")
    result = run("compare")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: dvc.lock: not valid YAML: ")


@pytest.mark.parametrize("name", ["reports/headlines.csv", "reports/headlines.study.json"])
@pytest.mark.parametrize("kind", ["a directory", "bytes", "a link to itself"])
def test_results_that_cannot_be_read(tiny: None, run: Run, name: str, kind: str) -> None:
    file = Path(name)
    file.unlink()
    if kind == "a directory":
        file.mkdir()
    elif kind == "bytes":
        file.write_bytes(b"\xff\xfe\0")
    else:
        file.symlink_to(file.name)
    for command in ["compare"], ["compare", "workspace"]:
        result = run(*command)
        assert (result.exit_code, result.stdout) == (1, "")
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"error: {name}: ")


def test_what_other_studies_left_beside_the_inputs_changes_nothing(tiny: None, run: Run) -> None:
    left = Path(TEST_IMAGES, "shapes.safetensors")
    record_runs()
    known = {"prepare@shapes": ([], [str(left)])}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "RUNS", {**RUNS, **known})
        record_runs(["prepare@shapes"])  # another study ran later
        assert run("compare").exit_code == 0
        record_runs(list(RUNS))  # and this one again, beside it
        assert run("compare").exit_code == 0
        left.unlink()  # on another machine
        assert run("compare").exit_code == 0
    Path(TEST_IMAGES, "unknown.safetensors").write_text("of no stage in dvc.lock")
    record_runs(["single_task@mini-clip-standard"])
    assert run("compare").exit_code == 0
    run_again("prepare@textures")
    assert run("compare").exit_code == 1


@pytest.mark.parametrize("command", ["evaluate --edit textures=1", "evaluate --edit optdigits=1 --tasks textures"])
def test_edits_are_not_evaluated_with_what_is_older_than_its_inputs(tiny: None, run: Run, command: str) -> None:
    record_runs()
    run_again("prepare@textures")
    result = run(*command.split())
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"error: single_task@mini-clip-standard: its output is of another {TEST_IMAGES}, which has changed since; "
        "run `tauflow repro single_task@mini-clip-standard`\n"
    )


def test_edits_are_not_evaluated_with_definitions_that_have_changed(tiny: None, run: Run) -> None:
    record_definitions()
    Path(TASK).write_text(Path(TASK).read_text() + "# changed\n")
    result = run("evaluate", "--edit", "textures=1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(
        f"error: prepare@textures: its output is of another {TASK}, which has changed since; "
    )


def test_revisions_show_their_own_results_or_none(tiny: None, run: Run) -> None:
    commit()
    summarise([*TINY, "seed=1"], level=0.6)
    result = run("compare", "workspace", "HEAD", "--format", "csv")
    assert result.exit_code == 0, result.output
    assert "note: HEAD against workspace: seed: 1 → 0" in result.stderr
    # A commit of parameters whose results are another study's.
    compose(ROOT, [*TINY, "control=shapes", "seed=1"], Path("params.yaml"))
    commit()
    result = run("compare", "HEAD", "HEAD~1")
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: HEAD: reports/headlines.csv: these are the results of another study, whose control ")


def test_commits_from_before_the_identity_are_judged_by_their_table(tiny: None, run: Run) -> None:
    Path("reports/headlines.csv").rename("reports/results.csv")
    Path("reports/headlines.study.json").unlink()
    commit()
    assert run("compare", "HEAD").exit_code == 0
    for overrides, key in ([*TINY, "control=shapes"], "control"), ([*TINY[:2], "paradigms=[ntk]"], "paradigms"):
        compose(ROOT, overrides, Path("params.yaml"))
        commit()
        result = run("compare", "HEAD")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("error: HEAD: reports/results.csv: these are the results of another study")
        assert key in result.stderr
    # The working tree is never judged so: it can be run.
    result = run("compare")
    assert result.stderr.startswith("error: reports/headlines.csv: there are no results of this study yet; ")


def test_commits_whose_parameters_are_of_another_version_are_judged_by_their_names(tiny: None, run: Run) -> None:
    parameters = Path("params.yaml").read_text()
    for changed, code in (
        (parameters + "later: 1\n", 0),
        (parameters.replace("seed: 0", "seed: 4", 1) + "later: 1\n", 1),
    ):
        Path("params.yaml").write_text(changed)
        commit()
        result = run("compare", "HEAD")
        assert result.exit_code == code, result.output
        assert ("whose seed is 0" in result.stderr) == bool(code)


def test_seeds_are_collected_from_the_table_and_never_of_another_study(tiny: None) -> None:
    commit()
    first = pd.read_csv("reports/headlines.csv")
    summarise([*TINY, "seed=1"], level=0.6)
    messages: list[str] = []
    assert collect(["workspace", "HEAD"], messages.append) == [0, 1]
    assert pd.read_csv("reports/seeds/0.csv").equals(first)
    assert messages == []
    compose(ROOT, [*TINY, "seed=2"], Path("params.yaml"))
    with pytest.raises(UserError, match="there are no results to collect"):
        collect([], messages.append)
    assert messages[0].startswith("left out workspace: reports/headlines.csv: these are the results of another study, ")


@pytest.mark.parametrize(("stage", "identity"), [("summary", headline_identity), ("report", study_identity)])
def test_a_stage_declares_every_parameter_of_the_identity_it_writes(
    tiny: None, stage: str, identity: Callable[[Parameters], StudyIdentity]
) -> None:
    """Or its table could stay, under the identity of parameters that have changed; `dvc.lock` tells whose it is."""
    declared = {
        entry.split(".")[0] for entry in yaml.safe_load(Path("dvc.yaml").read_text())["stages"][stage]["params"]
    }
    content = identity(load_parameters(Path("params.yaml"))).model_dump()
    derived = {"recipe", "arrivals"}
    assert {*content, *content.pop("settings")} - {"settings"} - derived <= declared
    assert "derived" in declared


def test_the_identity_is_readable(tiny: None) -> None:
    identity = json.loads(Path("reports/headlines.study.json").read_text())
    names = {key: identity[key] for key in ("suite", "models", "paradigms", "tasks", "control", "seed")}
    assert names == {
        "suite": "tiny",
        "models": ["mini-clip"],
        "paradigms": ["standard", "ntk"],
        "tasks": ["optdigits", "textures"],
        "control": "emoji",
        "seed": 0,
    }


def literature_recipes() -> list[tuple[str, list[str]]]:
    """The overrides with which pages compose or run a study before they compare it with the literature."""
    recipes = []
    for page in PAGES:
        for block in re.findall(r"(?:^    .*\n)+", page.read_text(encoding="utf-8"), re.M):
            lines = [shlex.split(line, comments=True) for line in block.splitlines()]
            if ["tauflow", "compare", "--literature"] in lines:
                recipes += [(page.name, line[2:]) for line in lines if line[:2] == ["tauflow", "compose"]]
                runs = [line[3:] for line in lines if line[:3] == ["dvc", "exp", "run"]]
                recipes += [(page.name, [word for word in line if word != "-S"]) for line in runs]
    return recipes


def test_recipes_that_end_with_the_literature_are_found() -> None:
    assert {page for page, _ in literature_recipes()} == {"README.md", "use_a_gpu.md", "reproducing.md"}


@pytest.mark.parametrize(
    ("page", "overrides"), literature_recipes(), ids=lambda value: value if isinstance(value, str) else value[-1]
)
def test_recipes_that_end_with_the_literature_run_to_their_last_line(
    tiny: None, run: Run, page: str, overrides: list[str]
) -> None:
    """Papers' images and models are replaced by stand-in measurements; summary and comparison are the real ones."""
    summarise(overrides)
    result = run("compare", "--literature", "--format", "csv")
    assert (result.exit_code, result.stderr) == (0, "")
    assert ",ours," in result.stdout
    assert run("compare").exit_code == 0


def test_the_readme_takes_the_table_of_params_yaml_only(tiny: None, capsys: pytest.CaptureFixture[str]) -> None:
    readme = Path("README.md")
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    update_readme(readme)
    assert readme.read_text() == f"before\n{BEGIN}\n{Path('reports/summary.md').read_text()}{END}\nafter\n"
    compose(ROOT, [*TINY, "seed=1"], Path("params.yaml"))
    before = readme.read_text()
    with pytest.raises(typer.Exit):
        update_readme(readme)
    assert "results of another study, whose seed is 0" in capsys.readouterr().err
    assert readme.read_text() == before


LOCK = """schema: '2.0'
stages:
  prepare@textures:
    cmd: prepare
    params:
      params.yaml:
        prepare.max_images: {images}
  finetune@mini-clip-textures-standard:
    cmd: finetune
    params:
      params.yaml:
        epochs.textures: {epochs}
        seed: {seed}
        device: cuda
  alpha_search@mini-clip-standard:
    cmd: alpha_search
    params:
      params.yaml:
        search.control_retention: {retention}
"""
SAME = {"images": 96, "epochs": 3, "seed": 0, "retention": 0.95}


@pytest.mark.parametrize(
    ("command", "other", "stage"),
    [
        ("evaluate --edit textures=1", {"images": "null"}, "prepare@textures"),
        ("evaluate --edit textures=1", {"epochs": 4}, "finetune@mini-clip-textures-standard"),
        ("export --edit textures=1 --out x", {"seed": 1}, "finetune@mini-clip-textures-standard"),
        ("register --sum", {"retention": 0.9}, "alpha_search@mini-clip-standard"),
        ("register --edit textures=1", {"epochs": 4}, "finetune@mini-clip-textures-standard"),
    ],
)
def test_edits_are_not_made_from_another_studys_artifacts(
    tiny: None, run: Run, command: str, other: dict[str, object], stage: str
) -> None:
    alpha = Path("reports/mini-clip/standard/alpha.json")
    alpha.parent.mkdir(parents=True)
    alpha.write_text('{"alpha": {"addition": 0.1}}')
    Path("dvc.lock").write_text(LOCK.format(**{**SAME, **other}))
    result = run(*command.split())
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {stage}: its output is of another study, whose ")
    assert line.endswith(f"run `tauflow repro {stage}`")
    Path("dvc.lock").write_text(LOCK.format(**SAME))
    assert "another study" not in run(*command.split()).stderr


def git(*arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def save(name: str) -> None:
    """Make the working tree an experiment, as DVC keeps them, and go back to the commit.

    `dvc exp save` wants the outputs of all stages.
    """
    baseline = git("rev-parse", "HEAD")
    git("add", "--all")
    experiment = git("commit-tree", git("write-tree"), "-p", baseline, "-m", name)
    git("update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/{name}", experiment)
    git("reset", "--quiet", "--hard")


def test_experiments_show_what_each_changed_with_its_own_results(tiny: None, run: Run) -> None:
    commit()
    summarise([*TINY[:2], "paradigms=[ntk]", "seed=1"], level=0.6)
    save("one")
    compose(ROOT, [*TINY, "finetune.lr=0.01", "search.control_retention=0.9"], Path("params.yaml"))
    save("two")
    result = run("experiments")
    assert result.exit_code == 0, result.output
    rows = [re.split(r"  +", line.strip()) for line in result.stdout.splitlines()[4:]]
    assert [row for row in rows if row[0]] == [
        ["HEAD", "standard", "70.0", "50.0", "60.0", "10.0", "20.0"],
        ["ntk", "71.0", "51.0", "61.0", "11.0", "21.0"],
        ["one", "paradigms=ntk, seed=1", "ntk", "80.0", "60.0", "70.0", "20.0", "30.0"],
        ["two", "finetune.lr=0.01, search.control_retention=0.9"],
    ]
    (line,) = result.stderr.splitlines()
    assert line.startswith("note: two: reports/headlines.csv: these are the results of another study, whose ")
    table = pd.read_csv(io.StringIO(run("experiments", "--format", "csv").stdout), dtype=str, keep_default_na=False)
    fitted, left_out = fit(table, Console(width=80))
    assert (list(fitted), left_out) == (list(table), [])  # nothing is broken or left out on a terminal
    wide = run("experiments", "--wide", "--format", "markdown").stdout
    assert "| one | paradigms=ntk, seed=1 | zero-shot |" in wide
    assert "|  |  | ntk | 80.0 [78.0, 82.0] |" in wide
