"""A wrong `-S` of the real `dvc exp run`, or a wrong params.yaml, is refused and changes nothing."""

import re

import pytest
import yaml

from tests.pipeline.conftest import Project, copy_project

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Nothing has run in it, nor does anything here."""
    return copy_project(tmp_path_factory.mktemp("mistakes") / "project")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-S", "paradigm=nkt"], r"paradigm: unknown option 'nkt'; choose from all, attention, .*tau_jp_tsv_m"),
        (["--queue", "-S", "suite=tny"], r"suite: unknown option 'tny'; choose from .*mini, .*tiny"),
        (["-S", "finetune.lrr=1"], r"unknown key 'finetune\.lrr'; choose from lr, .*precision, .*batch_size.*"),
        (["-S", "finetune.lr=fast"], r"finetune\.lr: 'fast' is invalid: .*number.*"),
    ],
)
def test_a_mistake_is_one_line(project: Project, arguments: list[str], message: str) -> None:
    before = (project.root / "params.yaml").read_bytes()
    result = project.run("dvc", "exp", "run", *arguments, check=False)
    assert result.returncode != 0
    (line,) = result.stderr.splitlines()
    assert re.fullmatch(f"ERROR: {message}", line)
    assert result.stdout == ""
    assert (project.root / "params.yaml").read_bytes() == before
    assert project.run("git", "status", "--porcelain", "--untracked-files=no").stdout == ""
    assert project.run("git", "for-each-ref", "refs/exps").stdout == ""  # nothing is queued


def test_verbose_shows_the_traceback(project: Project) -> None:
    result = project.run("dvc", "exp", "run", "-v", "-S", "paradigm=nkt", check=False)
    assert result.returncode == 255
    assert "Traceback" in result.stderr


OUTSIDE = "pipeline/report"
# Where params.yaml has a name, and what to run.
PLACES = [
    (("tasks", 0), "../" * 4, []),
    (("models", 0), "../" * 2, []),
    (("derived", "datasets", 0), "../" * 2, []),
    (("derived", "datasets", 0), "../" * 2, ["download@../../pipeline/report"]),
    (("derived", "recipes", 0), "../" * 4, ["--single-item", "geometry@mini-clip-../../../../pipeline/report"]),
    (("derived", "trained_recipes", 0), "../" * 3, []),
    (("derived", "tangent_recipes", 0), "../" * 4, []),
    (("derived", "evaluations", "mini-clip-standard", "paradigm"), "../" * 3, []),
    (("derived", "merged"), "../" * 3, []),
    (
        ("derived", "incremental_evaluations", "mini-clip-standard-0", "order"),
        "../" * 7,
        ["--single-item", "incremental@mini-clip-standard-0"],
    ),
]


@pytest.mark.parametrize(("place", "up", "arguments"), PLACES, ids=lambda value: str(value).replace("/", "-"))
def test_a_hand_edited_name_that_leads_elsewhere_deletes_nothing(
    project: Project, place: tuple[str | int, ...], up: str, arguments: list[str]
) -> None:
    """DVC removes the outputs of a stage before its script can refuse the name."""
    path = project.root / "params.yaml"
    content = section = yaml.safe_load(path.read_text())
    *parents, last = place
    for key in parents:
        section = section[key]
    if last == "merged":  # the study has none
        there = {"model": "mini-clip", "recipe": "standard", "images": "task_vectors/mini-clip/standard"}
        section[last] = {"mini-clip-x": {**there, "heads": there["images"], "paradigm": up + OUTSIDE}}
    else:
        section[last] = up + OUTSIDE
    try:
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        result = project.run("dvc", "repro", *arguments, check=False)
        assert result.returncode != 0
        changed = project.run("git", "status", "--porcelain", "--untracked-files=no", "--", ":!params.yaml").stdout
        assert changed == "", result.stderr
    finally:
        project.run("git", "checkout", "--quiet", "--", ".")


def test_no_other_output_is_a_directory_that_a_name_alone_calls(project: Project) -> None:
    """Those here are refused: a name that leads out of its directory gives two outputs one path."""
    stages = yaml.safe_load((project.root / "dvc.yaml").read_text())["stages"]
    outputs = [
        (stage, next(iter(output)) if isinstance(output, dict) else output)
        for stage, entry in stages.items()
        for output in [*entry.get("do", entry).get("outs", []), *entry.get("do", entry).get("plots", [])]
    ]
    assert {(stage, output) for stage, output in outputs if output.endswith("}")} == {
        ("download", "data/raw/${item.task}"),  # beside prepare's three splits
        ("features", "data/features/${item.split}/${item.model}/${item.recipe}"),  # of two splits
        ("merge", "data/task_vectors/${item.model}/${item.paradigm}"),
        ("merge", "data/merging/${item.model}/${item.paradigm}"),  # beside the one above
    }
