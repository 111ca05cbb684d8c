"""``tauflow evaluate`` and ``compare`` on what the real pipeline made."""

import io
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image

import tauflow
from artifacts import layout
from artifacts.evaluation.benchmarks import read_inputs
from pipeline.config import load_parameters
from pipeline.images import read_split
from pipeline.io.files import read_json, write_json
from pipeline.measurements import MEAN, read_measurements, select, write_frame
from pipeline.models import load_model_definition
from pipeline.models.encoders import load_clip
from pipeline.models.heads import tokenizer
from tests.pipeline.conftest import Project

pytestmark = pytest.mark.pipeline

COLUMNS = {"value": "", "ci_low": ": low", "ci_high": ": high"}


@pytest.mark.parametrize("paradigm", ["standard", "posthoc"])
def test_the_edit_of_a_stage_gets_its_numbers_and_intervals(reproduced: Project, paradigm: str) -> None:
    """In weight space and in tangent space."""
    reports = reproduced.root / "reports" / "mini-clip" / paradigm
    alpha = read_json(reports / "alpha.json")["alpha"]["addition"]
    edit = ",".join(f"{task}={alpha}" for task in ("optdigits", "textures"))
    output = reproduced.run("tauflow", "evaluate", "--edit", edit, "--paradigm", paradigm, "--format", "csv").stdout
    table = pd.read_csv(io.StringIO(output)).set_index("task")
    expected = read_measurements(reproduced.root / "reports" / "results.csv")
    expected = select(expected, paradigm=paradigm)
    sums = select(expected, benchmark="addition", setting="tuned")
    for task in ("optdigits", "textures", MEAN):
        row = table.loc["mean over tasks" if task == MEAN else task]
        scope, name = (MEAN, "") if task == MEAN else ("task", task)
        for title, rows in (
            ("zero-shot", select(expected, benchmark="zero_shot")),
            ("edited", select(sums, metric="accuracy")),
            ("normalised", select(sums, metric="normalized")),
        ):
            for column, suffix in COLUMNS.items():
                (number,) = select(rows, scope=scope, task=name)[column]
                assert row[f"{title}{suffix}"] == pytest.approx(100 * number, abs=0.0501), (task, title, column)
    control = select(expected, benchmark="zero_shot", task="emoji").iloc[0]
    assert table.loc["emoji (control)", "zero-shot: low"] == pytest.approx(100 * control["ci_low"], abs=0.0501)


def test_the_library_evaluates_as_the_stage_does(reproduced: Project) -> None:
    alpha = read_json(reproduced.root / "reports" / "mini-clip" / "standard" / "alpha.json")["alpha"]["addition"]
    with chdir(reproduced.root):
        tasks = load_parameters(Path("params.yaml")).tasks
        total = alpha * tauflow.merge([tauflow.load(layout.task_vector("mini-clip", "standard", t)) for t in tasks])
        rows = tauflow.evaluate(total, tasks).set_index("task")
    table = select(read_measurements(reproduced.root / "reports" / "results.csv"), paradigm="standard")
    sums = select(table, benchmark="addition", setting="tuned", metric="accuracy")
    for task in tasks:
        (number,) = select(sums, scope="task", task=task)["value"]
        assert float(rows.loc[task, "edited"].split()[0]) == pytest.approx(100 * number, abs=0.0501)


@pytest.mark.parametrize("paradigm", ["standard", "posthoc"])
def test_classified_pictures_are_what_the_edit_predicts(reproduced: Project, paradigm: str, tmp_path: Path) -> None:
    """In weight space and in tangent space, from image files, with probabilities from float64 logits."""
    with chdir(reproduced.root):
        params = load_parameters(Path("params.yaml"))
        inputs = read_inputs(params, "mini-clip", paradigm, "standard")
        benchmark = inputs.benchmark("textures", "test")
        pixels = read_split(layout.split("textures", "test"), len(benchmark.head.classes)).images[:6]
        edit = torch.tensor([[{"optdigits": 0.25, "textures": 0.5}[task] for task in params.tasks]])
        embedded = torch.cat(
            [embeddings for _, _, embeddings in inputs.space.embeddings(edit, [torch.tensor(benchmark.inputs[:6])])]
        ).double()
    for index, picture in enumerate(pixels):
        Image.fromarray(picture.transpose(1, 2, 0)).save(tmp_path / f"{index}.png")
    logits = embedded / embedded.norm(dim=1, keepdim=True) @ benchmark.head.weight.double().T
    expected = logits.softmax(1)

    options = ["--edit", "optdigits=0.25,textures=0.5", "--paradigm", paradigm, "--task", "textures"]
    output = reproduced.run("tauflow", "classify", str(tmp_path), *options, "--top", "2", "--format", "csv").stdout
    rows = pd.read_csv(io.StringIO(output))
    assert rows["picture"].tolist() == [str(tmp_path / f"{index}.png") for index in range(6) for _ in range(2)]
    best = expected.topk(2)
    assert rows["class"].tolist() == [benchmark.head.classes[index] for index in best.indices.flatten().tolist()]
    assert rows["probability"].tolist() == pytest.approx((100 * best.values.flatten()).tolist(), abs=0.06)


def test_pictures_are_classified_by_classes_of_ones_own(reproduced: Project, tmp_path: Path) -> None:
    with chdir(reproduced.root):
        images = read_split(layout.split("optdigits", "test"), 10).images
    Image.fromarray(images[0].transpose(1, 2, 0)).save(tmp_path / "digit.png")
    options = ["--edit", "optdigits=0", "--classes", "the number one,a green leaf", "--template", "{}"]
    output = reproduced.run("tauflow", "classify", str(tmp_path), *options, "--top", "2", "--format", "csv").stdout
    rows = pd.read_csv(io.StringIO(output)).set_index("class")
    definition = load_model_definition("mini-clip")
    with chdir(reproduced.root), torch.no_grad():
        clip: Any = load_clip(definition, layout.image_encoder("mini-clip"), layout.text_encoder("mini-clip"))
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (definition.mean, definition.std))
        image = (torch.from_numpy(images[0].copy()) / 255 - mean) / std
        features = clip.get_submodule("visual")(image[None])
        text = clip.encode_text(tokenizer(definition)(rows.index.tolist()))
        cosines = torch.nn.functional.cosine_similarity(features, text)
        expected = (cosines * clip.get_parameter("logit_scale").exp()).softmax(0)
    assert rows["probability"].tolist() == pytest.approx((100 * expected).tolist(), abs=0.06)


def test_evaluate_without_artifacts_says_what_to_do(clone: Project) -> None:
    shutil.rmtree(clone.root / "data" / "task_vectors")
    result = clone.run("tauflow", "evaluate", "--edit", "textures=1", check=False)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: data/task_vectors/mini-clip/standard/optdigits.safetensors: no such file; restore")


def test_experiments_and_revisions_side_by_side(clone: Project) -> None:
    parameters = (clone.root / "params.yaml").read_text("utf-8")
    table = clone.root / "reports" / "headlines.csv"
    write_frame(table, read_measurements(table).assign(seed=7))
    identity = clone.root / "reports" / "headlines.study.json"
    write_json(identity, read_json(identity) | {"seed": 7})
    (clone.root / "params.yaml").write_text(
        "\n".join("seed: 7" if line == "seed: 0" else line for line in parameters.splitlines())
    )
    clone.run("dvc", "exp", "save", "--quiet", "--name", "seven")
    clone.run("git", "checkout", "--quiet", "--", ".")
    before = clone.run("git", "status", "--porcelain").stdout
    result = clone.run("tauflow", "compare", "workspace", "seven", "HEAD", "--format", "csv")
    table = pd.read_csv(io.StringIO(result.stdout))
    assert table["experiment"].tolist() == ["workspace", "seven", "HEAD"] * 4
    assert list(dict.fromkeys(table["paradigm"])) == ["zero-shot", "standard", "posthoc", "tau_jp"]
    own = pd.read_csv(io.StringIO(clone.run("tauflow", "compare", "--format", "csv").stdout))
    pd.testing.assert_frame_equal(
        select(table, experiment="seven").drop(columns="experiment").reset_index(drop=True), own
    )
    assert result.stderr.splitlines() == [
        "note: seven against workspace: seed: 0 → 7",
        "note: HEAD against workspace: the same parameters",
    ]
    assert clone.run("git", "status", "--porcelain").stdout == before


def test_an_unknown_experiment(reproduced: Project) -> None:
    result = reproduced.run("tauflow", "compare", "no-such-name", check=False)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line == "error: experiments: unknown Git revision 'no-such-name'; `dvc exp list` shows their names"


def test_an_unknown_paradigm_is_one_line(clone: Project) -> None:
    before = (clone.root / "params.yaml").read_bytes()
    result = clone.run("tauflow", "compose", "paradigm=nkt", check=False)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: paradigm: unknown option 'nkt'; choose from all, attention, ")
    assert (clone.root / "params.yaml").read_bytes() == before
