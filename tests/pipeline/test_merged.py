"""Merged paradigms through the real DAG, in weight and in tangent space, against a computation by hand."""

import io
from collections.abc import Mapping

import pandas as pd
import pytest
import torch
from torch import Tensor

from artifacts.evaluation.edit_spaces import read_encoder
from artifacts.layout import head, image_statistics, merging_record, split, task_vector
from pipeline.editing import read_task_vector
from pipeline.images import read_split
from pipeline.io.files import read_json
from pipeline.io.tensor_files import TensorFile
from pipeline.merging import ImageStatistics, Step, TaskImages, merge, merge_with_images, task_statistics
from pipeline.models.encoders import ImageEncoder
from pipeline.models.heads import read_head
from tests.pipeline.conftest import OVERRIDES, Project

pytestmark = pytest.mark.pipeline

MODEL = "mini-clip"
TASKS = ("optdigits", "textures")
MERGED = """# @package _global_
defaults: [main, _self_]
paradigms: [standard, posthoc, tau_jp, merged, merged_posthoc]
paradigm:
  merged:
    recipe: standard
    merging:
      name: tsv_m
      options: { others: sum }
      images: null
      modifiers: [{ name: lines, options: {} }]
      extension: null
    evaluated_in: weight
    negation_grid: null
  merged_posthoc:
    recipe: standard
    merging: { name: iso_c, options: {}, images: null, modifiers: [], extension: null }
    evaluated_in: tangent
    negation_grid: null
"""
STEPS = {
    "merged": (Step("tsv_m", {"others": "sum"}), [Step("lines")]),
    "merged_posthoc": (Step("iso_c"), []),
}
Parameters = Mapping[str, Tensor]


def in_weight_space(encoder: ImageEncoder, images: Tensor, tau: Parameters) -> Tensor:
    base = dict(encoder.visual.named_parameters())
    moved = {f"visual.{name}": base[name] + tau[name] for name in tau}
    return torch.func.functional_call(encoder, moved, images)


def in_tangent_space(encoder: ImageEncoder, images: Tensor, tau: Parameters) -> Tensor:
    base = dict(encoder.visual.named_parameters())

    def embed(moved: Parameters) -> Tensor:
        return torch.func.functional_call(encoder, {f"visual.{n}": t for n, t in moved.items()}, images)

    here = {name: base[name].detach() for name in tau}
    result = torch.func.jvp(embed, (here,), ({name: tau[name] for name in tau},))
    return result[0] + result[1]


EMBED = {"merged": in_weight_space, "merged_posthoc": in_tangent_space}


def accuracy(paradigm: str, encoder: ImageEncoder, task: str, tau: Parameters) -> float:
    classifier = read_head(head(MODEL, task))
    test = read_split(split(task, "test"), len(classifier.classes))
    # The fused attention of inference has no forward-mode derivative.
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        embeddings = EMBED[paradigm](encoder.train(), torch.from_numpy(test.images), tau)
    return float((classifier.logits(embeddings).argmax(1).numpy() == test.labels).mean())


@pytest.fixture
def merged(clone: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The study with two merged paradigms beside its own, composed but not run; the current directory."""
    (clone.root / "conf" / "paradigm" / "merging.yaml").write_text(MERGED)
    chosen = "paradigms=[standard,posthoc,tau_jp,merged,merged_posthoc]"
    clone.run("tauflow", "compose", *OVERRIDES, "paradigm=merging", chosen)
    monkeypatch.chdir(clone.root)
    return clone


def test_merged_paradigms_are_evaluated_like_any_other(merged: Project) -> None:
    ran = merged.repro()
    foreign = [name for name in ran if "merged" not in name]
    assert set(foreign) == {"comparison@mini-clip", "summary", "report"}
    assert "merge@mini-clip-merged" in ran
    assert "geometry@mini-clip-merged" in ran
    assert {"features@mini-clip-merged_posthoc-val", "features@mini-clip-merged_posthoc-test"} <= set(ran)
    # Merging only what has arrived would be another merge.
    assert not [name for name in ran if name.startswith("incremental")]

    encoder = read_encoder(MODEL)
    own = [read_task_vector(task_vector(MODEL, "standard", task)) for task in TASKS]
    for paradigm, unmerged in (("merged", "standard"), ("merged_posthoc", "posthoc")):
        method, modifiers = STEPS[paradigm]
        parts = [read_task_vector(task_vector(MODEL, paradigm, task)) for task in TASKS]
        for part, expected in zip(parts, merge(own, method, modifiers), strict=True):
            assert part.provenance.recipe == paradigm
            assert all(torch.equal(part.tensors[name], expected.tensors[name]) for name in expected.tensors)
        total = {name: torch.stack([p.tensors[name] for p in parts]).sum(0) for name in parts[0].tensors}
        measurements = merged.root / "data" / "measurements" / MODEL / paradigm
        addition = pd.read_csv(measurements / "addition.csv")
        rows = addition[(addition["setting"] == "alpha_1") & (addition["scope"] == "task")]
        values = rows.pivot_table(index="task", columns="metric", values="value")
        for task, vector in zip(TASKS, own, strict=True):
            edited, single = (accuracy(paradigm, encoder, task, tau) for tau in (total, vector.tensors))
            assert values.loc[task, "accuracy"] == pytest.approx(edited, abs=1e-6)
            assert values.loc[task, "normalized"] == pytest.approx(edited / single, abs=1e-6)
        own_singles, singles = (
            pd.read_csv(merged.root / "data" / "measurements" / MODEL / name / "single_task.csv")
            for name in (paradigm, unmerged)
        )
        pd.testing.assert_frame_equal(own_singles.drop(columns="paradigm"), singles.drop(columns="paradigm"))
        on_val = [
            read_json(merged.root / "reports" / MODEL / name / "alpha.json")["val"]["single_task"]
            for name in (paradigm, unmerged)
        ]
        assert on_val[0] == on_val[1]
    summary = (merged.root / "reports" / "summary.md").read_text()
    assert "merged" in summary
    assert "merged_posthoc" in summary
    recipes = pd.read_csv(merged.root / "reports" / "results.csv")["recipe"]
    assert {"standard", "merged", "merged_posthoc"} <= set(recipes.dropna())
    record = read_json(merged.root / "data" / "merging" / MODEL / "merged" / "merging.json")
    assert [step["name"] for step in record["steps"]] == ["tsv_m", "lines"]
    assert merged.repro() == []

    # The commands that work on one edit read the merged vectors, and compare with unmerged models.
    edit = ",".join(f"{task}=1" for task in TASKS)
    out = merged.run("tauflow", "evaluate", "--edit", edit, "--paradigm", "merged", "--format", "csv").stdout
    shown = pd.read_csv(io.StringIO(out)).set_index("task")
    addition = pd.read_csv(merged.root / "data" / "measurements" / MODEL / "merged" / "addition.csv")
    for _, row in addition.query("setting == 'alpha_1' and metric == 'normalized' and scope == 'task'").iterrows():
        assert shown.loc[row["task"], "normalised"] == pytest.approx(100 * row["value"], abs=0.0501)
    merged.run("tauflow", "export", "--edit", edit, "--paradigm", "merged", "--out", "exported")
    assert "tsv_m + lines" in (merged.root / "exported" / "README.md").read_text()


WITH_IMAGES = """# @package _global_
defaults: [main, _self_]
paradigms: [standard, tau_jp, weighted, calibrated, blockwise]
paradigm:
  weighted:
    recipe: tau_jp
    merging:
      name: fisher
      options: {}
      images: { statistic: fisher, split: train, count: 12, seed: 1 }
      modifiers: []
      extension: null
    evaluated_in: tangent
    negation_grid: null
  calibrated:
    recipe: standard
    merging:
      name: regmean
      options: {}
      images: { statistic: gram, split: val, count: null, seed: 0 }
      modifiers: [{ name: lines, options: {} }]
      extension: null
    evaluated_in: weight
    negation_grid: null
  blockwise:
    recipe: standard
    merging:
      name: regmean_plus_plus
      options: { count: 8 }
      images: { statistic: null, split: train, count: null, seed: 0 }
      modifiers: []
      extension: null
    evaluated_in: weight
    negation_grid: null
"""


def test_methods_see_images_through_a_stage_and_an_artifact(clone: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (clone.root / "conf" / "paradigm" / "with_images.yaml").write_text(WITH_IMAGES)
    chosen = "paradigms=[standard,tau_jp,weighted,calibrated,blockwise]"
    clone.run("tauflow", "compose", *OVERRIDES, "paradigm=with_images", chosen)
    monkeypatch.chdir(clone.root)
    ran = clone.repro("merge")
    statistics = {f"image_statistics@{MODEL}-{p}-{task}" for p in ("weighted", "calibrated") for task in TASKS}
    assert {name for name in ran if name.startswith(("image_statistics", "merge"))} == statistics | {
        f"merge@{MODEL}-{paradigm}" for paradigm in ("weighted", "calibrated", "blockwise")
    }
    encoder = read_encoder(MODEL)
    for paradigm, recipe, space, kind in (
        ("weighted", "tau_jp", "tangent", "fisher"),
        ("calibrated", "standard", "weight", "gram"),
    ):
        own, known = [], {}
        for task in TASKS:
            path = task_vector(MODEL, recipe, task)
            own.append(read_task_vector(path))
            made = ImageStatistics.open(image_statistics(MODEL, paradigm, task))
            assert made.kind == kind
            origin = {"model": MODEL, "task": task, "recipe": recipe, "space": space}
            assert made.origin.items() >= {**origin, "vector_sha256": TensorFile(path).sha256}.items()
            classifier = read_head(head(MODEL, task))
            if kind == "gram":  # all images: nothing is drawn
                images = torch.from_numpy(read_split(split(task, "val"), len(classifier.classes)).images)
                expected = task_statistics("gram", encoder, own[-1], classifier, [images], "weight", 0)
                assert made.images == len(images)
                for name, tensor in expected.tensors.items():
                    torch.testing.assert_close(torch.from_numpy(made.tensors[name]), torch.from_numpy(tensor))
            else:
                assert made.images == 12
            known[task] = made
        modifiers = [Step("lines")] if paradigm == "calibrated" else []
        method = Step("fisher" if kind == "fisher" else "regmean")
        for task, expected in zip(TASKS, merge(own, method, modifiers, known), strict=True):
            part = read_task_vector(task_vector(MODEL, paradigm, task))
            assert part.provenance.recipe == paradigm
            assert all(part.tensors[name].equal(tensor) for name, tensor in expected.tensors.items())
        record = read_json(merging_record(MODEL, paradigm))
        assert record["statistics"] == {task: known[task].sha256 for task in TASKS}
    images = {}
    for task in TASKS:
        classifier = read_head(head(MODEL, task))
        train = read_split(split(task, "train"), len(classifier.classes))
        images[task] = TaskImages(train.images, train.labels, classifier)
    own = [read_task_vector(task_vector(MODEL, "standard", task)) for task in TASKS]
    result = merge_with_images(own, encoder, images, Step("regmean_plus_plus", {"count": 8}))
    for task, expected in zip(TASKS, result.vectors, strict=True):
        part = read_task_vector(task_vector(MODEL, "blockwise", task))
        for name, tensor in expected.tensors.items():
            torch.testing.assert_close(part.tensors[name], tensor, rtol=1e-4, atol=1e-7)
    # A new option of the method computes no statistic again.
    clone.set_parameter("paradigm.calibrated.merging.options", {"off_diagonal": 0.5})
    assert clone.repro("merge") == [f"merge@{MODEL}-calibrated"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "ties_"}, "unknown merging method 'ties_'; choose from average"),
        ({"options": {"keep": 2}}, "merging method tsv_m: unknown option 'keep'"),
        ({"name": "regmean", "options": {}}, "merging method regmean: needs images of every task; set images to {"),
        ({"modifiers": [{"name": "lines", "options": {"slope": -1}}]}, "merging modifier lines: option slope is -1"),
        ({"extension": {"path": "gone.py", "sha256": "0" * 64}}, "gone.py: no such file"),
    ],
)
def test_a_wrong_merge_is_one_line_before_anything_runs(merged: Project, changes: dict, message: str) -> None:
    for key, value in changes.items():
        merged.set_parameter(f"paradigm.merged.merging.{key}", value)
    for command in (["tauflow", "check"], ["python", "-m", "stages.merge", "merge@mini-clip-merged"]):
        result = merged.run(*command, check=False)
        assert result.returncode == 1
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
