"""The real ``dvc repro`` on the tiny suite: what runs, what does not, and the same bytes every time."""

import hashlib
import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update

from tests.pipeline.conftest import Project
from tests.test_declarations import FREE

pytestmark = pytest.mark.pipeline

PARADIGM = "mini-clip/standard"
# One instance of every stage, in the order of the story.
INSTANCES = [
    "download@textures",
    "prepare@textures",
    "pretrained@mini-clip",
    "head@mini-clip-textures",
    "finetune@mini-clip-textures-standard",
    "finetune_regularised@mini-clip-textures-tau_jp",
    "task_vector@mini-clip-textures-standard",
    "features@mini-clip-tau_jp-val",
    "single_task@mini-clip-standard",
    "alpha_search@mini-clip-standard",
    "addition@mini-clip-standard",
    "negation@mini-clip-standard",
    "comparison@mini-clip",
    "summary",
    "disentanglement@mini-clip-posthoc",
    "interference@mini-clip-standard",
    "geometry@mini-clip-standard",
    "localisation@mini-clip",
    "merging_grid@mini-clip-standard",
    "merging_grid@mini-clip-tau_jp",
    "incremental@mini-clip-tau_jp-0",
    "report",
]


def test_metrics_exist_and_agree_with_each_other(reproduced: Project) -> None:
    results = pd.read_csv(reproduced.root / "reports" / "results.csv").query("paradigm == 'standard'")
    metrics = json.loads((reproduced.root / "reports" / PARADIGM / "addition.json").read_text())["addition"]
    alpha = json.loads((reproduced.root / "reports" / PARADIGM / "alpha.json").read_text())["alpha"]

    def value(benchmark: str, setting: str, task: str, metric: str) -> float:
        of_task = "scope == 'mean'" if task == "mean" else "scope == 'task' and task == @task"
        rows = results.query(f"benchmark == @benchmark and setting == @setting and {of_task} and metric == @metric")
        assert len(rows) == 1
        return rows["value"].iloc[0]

    assert value("addition", "tuned", "mean", "alpha") == alpha["addition"] == metrics["tuned"]["alpha"]
    for setting in ("tuned", "alpha_1"):
        accuracy = [value("addition", setting, task, "accuracy") for task in ("optdigits", "textures")]
        single = [value("single_task", "none", task, "accuracy") for task in ("optdigits", "textures")]
        assert value("addition", setting, "mean", "accuracy") == pytest.approx(sum(accuracy) / 2, abs=1e-6)
        normalised = sum(a / s for a, s in zip(accuracy, single, strict=True)) / 2
        assert value("addition", setting, "mean", "normalized") == pytest.approx(normalised, abs=1e-5)
        assert metrics[setting]["accuracy"] == pytest.approx(sum(accuracy) / 2, abs=1e-6)
    with_interval = results.dropna(subset="ci_low")
    low, value_, high = with_interval[["ci_low", "value", "ci_high"]].to_numpy().T
    assert ((low <= value_) & (value_ <= high)).all()
    assert len(with_interval) > 20
    for task, chosen in alpha["negation"].items():
        if chosen == 0:
            target = value("negation", "tuned", task, "target")
            assert target == value("zero_shot", "none", task, "accuracy")


def test_the_chosen_alpha_is_the_best_of_its_curve(reproduced: Project) -> None:
    measurements = reproduced.root / "data" / "measurements" / PARADIGM
    alpha = json.loads((reproduced.root / "reports" / PARADIGM / "alpha.json").read_text())["alpha"]
    curve = pd.read_csv(measurements / "addition_curve.csv")
    best = curve[curve["normalized"] == curve["normalized"].max()]["alpha"].min()
    assert alpha["addition"] == best
    for path in (measurements / "negation_curves").glob("*.csv"):
        task, rows = path.stem, pd.read_csv(path)
        kept = rows[rows["control"] >= 0.95 * rows["control"].iloc[0]]
        assert alpha["negation"][task] == kept[kept["target"] == kept["target"].min()]["alpha"].min()


def test_the_table_comes_before_the_analyses(reproduced: Project) -> None:
    """They take long, and nothing of them is in it."""
    order = [name.split("@")[0] for name in reproduced.repro("--dry", "--force")]
    last = max(order.index(stage) for stage in ("negation", "comparison", "summary"))
    analyses = ("disentanglement", "interference", "geometry", "localisation", "merging_grid", "incremental")
    assert last < min(order.index(stage) for stage in analyses)


def test_a_second_repro_runs_nothing(reproduced: Project) -> None:
    assert reproduced.repro() == []


def test_the_main_job_needs_no_activated_environment(clone: Project) -> None:
    tauflow = str(Path(sys.executable).with_name("tauflow"))
    lock = (clone.root / "dvc.lock").read_bytes()
    result = clone.run(tauflow, "repro", "--force", "--single-item", "report", PATH="/usr/bin:/bin")
    assert "1 of 1 stages to run" in result.stdout
    assert "1/1  report" in result.stdout
    assert "Updating lock file" not in result.stdout
    assert (clone.root / "dvc.lock").read_bytes() == lock  # which DVC's own writer made
    (clone.root / "dvc.lock").write_bytes(lock.replace(b"  summary:", b"  other:"))
    output = clone.run(tauflow, "repro", "--verbose", "--force", "--single-item", "summary").stdout
    assert "Running stage 'summary'" in output
    assert "Updating lock file 'dvc.lock'" in output
    written = (clone.root / "dvc.lock").read_text()
    assert written == dumps_yaml(parse_yaml_for_update(written, "dvc.lock"))
    assert clone.lock()["other"] == clone.lock()["summary"]
    assert "reports/index.html" in result.stdout
    assert "mlflow ui" in result.stdout


def test_metrics_and_plots_can_be_shown(reproduced: Project) -> None:
    shown = json.loads(reproduced.run("dvc", "metrics", "show", "--json").stdout)
    files = shown[""]["data"]
    assert list(files) == ["reports/metrics.json"]  # few enough for `dvc exp show`
    metrics = files["reports/metrics.json"]["data"]["mini-clip"]
    means = json.loads((reproduced.root / "reports" / PARADIGM / "addition.json").read_text())["addition"]
    assert set(metrics) == {"standard", "posthoc", "tau_jp"}
    assert metrics["standard"]["addition"] == pytest.approx(means["tuned"]["accuracy"], abs=1e-4)
    assert metrics["standard"]["normalized_alpha_1"] == pytest.approx(means["alpha_1"]["normalized"], abs=1e-4)
    plots = reproduced.run("dvc", "plots", "show", "--json", "--split").stdout
    assert "addition_curve.csv" in plots
    assert "training/mini-clip/standard/textures.csv" in plots


def test_a_new_alpha_grid_retrains_nothing(clone: Project) -> None:
    clone.set_parameter("search.addition.points", 3)
    ran = clone.repro("--dry")
    assert "alpha_search@mini-clip-standard" in ran
    assert {name.split("@")[0] for name in ran} <= {
        "alpha_search",
        "addition",
        "negation",
        "comparison",
        "summary",
        "merging_grid",
        "incremental",
        "report",
    }


def test_new_epochs_of_one_task_leave_the_other_alone(clone: Project) -> None:
    clone.set_parameter("epochs.textures", 4)
    trained = [name for name in clone.repro("--dry") if name.startswith("finetune")]
    assert trained == [
        "finetune@mini-clip-textures-standard",
        "finetune_regularised@mini-clip-textures-tau_jp",
        "finetune_regularised@mini-clip-textures-tau_jp_order_0",
    ]


def test_finer_heatmaps_propagate_nothing_again(clone: Project) -> None:
    clone.set_parameter("disentanglement.grid.points", 4)
    assert {name.split("@")[0] for name in clone.repro("--dry")} == {"disentanglement", "report"}


def test_editing_the_evaluation_code_propagates_nothing_again(clone: Project) -> None:
    search = clone.root / "pipeline" / "evaluation" / "search.py"
    search.write_text(search.read_text() + "\n# a comment\n")
    ran = {name.split("@")[0] for name in clone.repro("--dry")}
    assert "alpha_search" in ran
    assert not ran & {"finetune", "finetune_regularised", "task_vector", "features"}


def test_editing_the_report_code_reruns_only_what_it_makes(clone: Project) -> None:
    tables = clone.root / "pipeline" / "report" / "tables" / "__init__.py"
    tables.write_text(tables.read_text() + "\n# a comment\n")
    assert clone.repro() == ["summary", "report"]


def test_a_deleted_artifact_comes_back_from_the_cache(clone: Project) -> None:
    vector = clone.root / "data" / "task_vectors" / "mini-clip" / "standard" / "textures.safetensors"
    content = vector.read_bytes()
    vector.unlink()
    clone.run("dvc", "checkout", str(vector.relative_to(clone.root)))
    assert vector.read_bytes() == content


@pytest.mark.parametrize("instance", INSTANCES)
def test_running_a_stage_again_gives_the_same_bytes_and_reads_only_what_it_declares(
    reproduced: Project, tmp_path: Path, instance: str
) -> None:
    """Run the stage's command in a tree that holds only its declared dependencies, and compare its outputs.

    What cannot change a result is there too: it is not declared.
    """
    entry = reproduced.lock()[instance]
    tree = Project(tmp_path / "tree", reproduced.forks)
    for path in [*FREE, "dvc.yaml", "params.yaml", *(item["path"] for item in entry["deps"])]:
        _copy(reproduced.root / path, tree.root / path)
    tree.run(*entry["cmd"].split(), DVC_STAGE=instance)
    for item in entry["outs"]:
        assert _digest(tree.root / item["path"]) == _digest(reproduced.root / item["path"]), item["path"]


def test_an_experiment_composes_the_parameters_and_runs_only_what_they_change(clone: Project) -> None:
    ran = {name.split("@")[0] for name in clone.experiment("search.addition.points=3")}
    assert "alpha_search" in ran
    assert not ran & {"download", "prepare", "pretrained", "head", "finetune", "task_vector", "single_task"}
    assert len(pd.read_csv(clone.root / "data" / "measurements" / PARADIGM / "addition_curve.csv")) == 3


def test_posthoc_trains_nothing_and_copies_no_vector(reproduced: Project) -> None:
    lock = reproduced.lock()
    kinds = {name.split("@")[0] for name in lock if "-posthoc" in name}
    analyses = {"disentanglement", "interference", "merging_grid", "incremental"}
    assert kinds == {"single_task", "alpha_search", "addition", "negation"} | analyses
    recipes = {path.name for path in (reproduced.root / "data" / "task_vectors" / "mini-clip").iterdir()}
    assert recipes == {"standard", "tau_jp", "tau_jp_order_0"}
    inputs = [item["path"] for item in lock["features@mini-clip-standard-test"]["deps"]]
    assert "data/task_vectors/mini-clip/standard" in inputs
    inputs = [item["path"] for item in lock["addition@mini-clip-posthoc"]["deps"]]
    assert "data/features/test/mini-clip/standard" in inputs
    results = pd.read_csv(reproduced.root / "reports" / "results.csv")
    results = results.query("benchmark == 'single_task' and metric == 'accuracy'")
    by_paradigm = {name: group["value"].tolist() for name, group in results.groupby("paradigm")}
    assert by_paradigm["posthoc"] != by_paradigm["standard"]  # the same vectors in another space


def test_only_a_regularised_fine_tuning_reads_other_tasks(reproduced: Project) -> None:
    for name, entry in reproduced.lock().items():
        inputs = {item["path"] for item in entry["deps"] if item["path"].startswith("data/tasks/train")}
        if name.startswith("finetune@"):
            assert inputs == {f"data/tasks/train/{name.split('-')[2]}.safetensors"}
        elif name.startswith("finetune_regularised@"):
            assert inputs == {"data/tasks/train"}
        else:
            assert not inputs


def test_all_stages_are_covered(reproduced: Project) -> None:
    """Except for those that only imported or merged vectors need: test_imported.py and test_merged.py run them."""
    stages = re.findall(r"^  (\w+):$", (reproduced.root / "dvc.yaml").read_text(), re.MULTILINE)
    covered = list(dict.fromkeys(instance.split("@")[0] for instance in INSTANCES))
    elsewhere = ("finetune_continued", "task_vector_imported", "image_statistics", "merge")
    assert covered == [stage for stage in stages if stage not in elsewhere]
    assert set(INSTANCES) <= set(reproduced.lock())


@pytest.mark.parametrize("stage", ["finetune", "alpha_search"])
def test_no_test_image_is_opened_before_the_numbers_are_reported(reproduced: Project, stage: str) -> None:
    """Neither stage declares a test split, and both ran above in a tree without one."""
    entries = [entry for name, entry in reproduced.lock().items() if name.startswith(f"{stage}@")]
    assert entries
    paths = [item["path"] for entry in entries for item in entry["deps"]]
    assert not [path for path in paths if path.startswith("data/tasks") and "test" in path]
    assert all(path.split("/")[2] in ("train", "val") for path in paths if path.startswith("data/tasks"))


def _copy(source: Path, destination: Path) -> None:
    if source.is_dir():
        for path in source.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                _copy(path, destination / path.relative_to(source))
    else:
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.write_bytes(source.read_bytes())


def _digest(path: Path) -> str:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            digest.update(f"{file.relative_to(path)}\n".encode() + file.read_bytes())
    return digest.hexdigest()
