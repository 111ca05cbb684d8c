"""``tauflow evaluate`` against NumPy, in tangent space on made-up features."""

import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from artifacts import layout
from pipeline.evaluation.correctness import read_correct
from pipeline.images import LabelledImages, write_split
from pipeline.io.arrays import read_arrays, write_arrays
from tests.cli.conftest import CONTROL, IMAGES, MODEL, RECIPE, TASKS, Run

Features = dict[tuple[str, str], np.ndarray]
EDIT = {"optdigits": 0.5, "textures": -0.25}
TEXT = ",".join(f"{task}={coefficient}" for task, coefficient in EDIT.items())


def correct(features: Features, task: str, split: str, coefficients: list[float]) -> np.ndarray:
    """Return which images an edit classifies correctly."""
    embedded = np.einsum("p,npd->nd", [1.0, *coefficients], features[split, task])
    weight = read_arrays(layout.head(MODEL, task))[0]["weight"]
    labels = read_arrays(Path("data") / "tasks" / split / f"{task}.safetensors")[0]["labels"]
    logits = embedded / np.linalg.norm(embedded, axis=1, keepdims=True) @ weight.T
    return logits.argmax(axis=1) == labels


def table(output: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(output)).set_index("task")


def test_every_task_and_the_control(features: Features, run: Run) -> None:
    result = run("evaluate", "--edit", TEXT, "--format", "csv")
    assert result.stderr == ""
    rows = table(result.stdout)
    assert rows.index.tolist() == [*TASKS, f"{CONTROL} (control)", "mean over tasks"]
    single = read_correct(layout.correctness(MODEL, "posthoc", "single_task"), "single_task")
    edited, normalised = {}, {}
    for task in (*TASKS, CONTROL):
        row = rows.loc[task if task in TASKS else f"{task} (control)"]
        edited[task] = correct(features, task, "test", list(EDIT.values())).mean()
        assert row["images"] == IMAGES
        assert row["zero-shot"] == pytest.approx(100 * correct(features, task, "test", [0, 0]).mean(), abs=0.051)
        assert row["edited"] == pytest.approx(100 * edited[task], abs=0.051)
        assert row["edited: low"] < row["edited"] < row["edited: high"]
        if task in TASKS:
            normalised[task] = edited[task] / single[task].mean()
            assert row["normalised"] == pytest.approx(100 * normalised[task], abs=0.051)
        else:
            assert np.isnan(row["normalised"])
    mean = rows.loc["mean over tasks"]
    assert mean["edited"] == pytest.approx(100 * np.mean([edited[task] for task in TASKS]), abs=0.051)
    assert mean["normalised"] == pytest.approx(100 * np.mean(list(normalised.values())), abs=0.051)


def test_named_tasks_on_val(features: Features, run: Run) -> None:
    result = run("evaluate", "--edit", TEXT, "--tasks", "textures", "--split", "val", "-f", "csv")
    rows = table(result.stdout)
    assert rows.index.tolist() == ["textures"]
    expected = 100 * correct(features, "textures", "val", list(EDIT.values())).mean()
    assert rows["edited"].item() == pytest.approx(expected, abs=0.051)
    assert "normalised accuracy needs single-task results" in result.stderr


def test_without_single_task_results(features: Features, run: Run) -> None:
    shutil.rmtree("data/correctness")
    result = run("evaluate", "--edit", TEXT)
    assert result.exit_code == 0
    assert "note: no normalised accuracy: `dvc repro single_task@mini-clip-posthoc`" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--edit", "mnist=0.4"], "--edit: unknown task 'mnist'; choose from optdigits, textures"),
        (["--edit", "emoji=1"], "--edit: unknown task 'emoji'"),  # the control has no task vector
        (["--edit", "optdigits"], "'optdigits' is not task=coefficient; write for example --edit optdigits=0.4"),
        (["--edit", ""], "'' is not task=coefficient"),
        (["--edit", "optdigits=much"], "the coefficient of optdigits, 'much', is not a number"),
        (["--edit", "optdigits=inf"], "the coefficient of optdigits is inf; it must be finite"),
        (["--edit", "optdigits=1,optdigits=2"], "'optdigits' is named twice"),
        (
            ["--edit", "optdigits=1", "--paradigm", "nkt"],
            "--paradigm: 'nkt' is not in params.yaml; choose from posthoc",
        ),
        (["--edit", "optdigits=1", "--model", "x"], "--model: 'x' is not in params.yaml; choose from mini-clip"),
        (["--edit", "optdigits=1", "--tasks", "all,icons"], "--tasks: unknown task 'all'; choose from optdigits"),
        (
            ["--edit", "optdigits=1", "--paradigm", "ntk"],
            "data/features/test/mini-clip/ntk/optdigits.safetensors: no such file",
        ),
    ],
)
def test_mistakes_are_one_line(features: Features, run: Run, arguments: list[str], message: str) -> None:
    result = run("evaluate", *arguments)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize("coefficient", ["1e25", "-1e25", "1e39", "1e300"])
def test_an_edit_that_overflows_has_no_accuracy(coefficient: str, features: Features, run: Run) -> None:
    """At 1e25 embeddings are finite but not their lengths: normalised they are 0, which is the first class."""
    result = run("evaluate", "--edit", f"textures={coefficient}")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: embeddings are NaN or infinite; choose smaller coefficients\n"


@pytest.mark.parametrize(
    ("path", "metadata", "whose"),
    [
        (layout.split("textures", "test"), {"task": "icons", "split": "test"}, "task 'icons'"),
        (layout.split("textures", "test"), {"task": "textures", "split": "val"}, "split 'val'"),
        (layout.head(MODEL, "textures"), {"model": "ViT-B-32", "task": "textures"}, "model 'ViT-B-32'"),
        (layout.features(MODEL, RECIPE, "test", "textures"), {"recipe": "ntk"}, "recipe 'ntk'"),
        (layout.correctness(MODEL, "posthoc", "single_task"), {"paradigm": "ntk"}, "paradigm 'ntk'"),
    ],
)
def test_a_file_of_another_is_refused(
    path: Path, metadata: dict[str, str], whose: str, features: Features, run: Run
) -> None:
    arrays, own = read_arrays(path)
    write_arrays(path, arrays, {**own, **metadata})
    result = run("evaluate", "--edit", TEXT)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"error: {path}: belongs to {whose}, not to " in result.stderr


def test_single_task_results_of_other_images(features: Features, run: Run) -> None:
    path = layout.split("textures", "test")
    arrays, _ = read_arrays(path)
    write_split(path, LabelledImages(arrays["images"][:5], arrays["labels"][:5]), {})
    five = {"features": features["test", "textures"][:5]}
    write_arrays(layout.features(MODEL, RECIPE, "test", "textures"), five, {})
    result = run("evaluate", "--edit", TEXT)
    assert result.exit_code == 1
    assert "task textures: its single-task result belongs to other images" in result.stderr
