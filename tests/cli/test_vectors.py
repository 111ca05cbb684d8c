"""``tauflow vectors``, on made-up task vectors."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from artifacts import layout
from pipeline.editing import TaskVector, read_task_vector, write_task_vector
from pipeline.merging import Step, merge
from pipeline.models.checkpoints import Provenance
from tests.cli.conftest import BASE, MODEL, RECIPE, Run


def test_the_list(vectors: dict[str, TaskVector], run: Run) -> None:
    result = run("vectors", "list", "--format", "csv")
    table = pd.read_csv(io.StringIO(result.output), dtype=str)
    flat = [np.concatenate([t.numpy().ravel() for t in vector.tensors.values()]) for vector in vectors.values()]
    assert table.to_dict("list") == {
        "model": [MODEL] * 2,
        "recipe": [RECIPE] * 2,
        "task": list(vectors),
        "tensors": ["3", "3"],
        "norm": [f"{np.linalg.norm(values):.4f}" for values in flat],
        "θ₀": [BASE[:12]] * 2,
        "seed": ["0", "0"],
    }


def test_a_vector_by_layers(vectors: dict[str, TaskVector], run: Run) -> None:
    shown = run("vectors", "show", MODEL, RECIPE, "textures").output
    assert f"base_sha256    {BASE}" in shown
    table = pd.read_csv(io.StringIO(run("vectors", "show", MODEL, RECIPE, "textures", "-f", "csv").output))
    assert table["layer"].tolist() == ["block.attn", "conv1"]
    assert table["parameters"].tolist() == [12, 6]
    tensors = vectors["textures"].tensors
    attention = [*tensors["block.attn.in_proj_weight"].ravel(), *tensors["block.attn.in_proj_bias"]]
    norms, shares = (table[column].to_numpy() for column in ("norm", "share of ‖τ‖², %"))
    assert norms[0] == pytest.approx(np.linalg.norm(attention), abs=5e-5)
    assert shares == pytest.approx(100 * norms**2 / (norms**2).sum(), abs=0.06)


def test_a_combination(vectors: dict[str, TaskVector], run: Run) -> None:
    out = Path("combined.safetensors")
    result = run("vectors", "combine", MODEL, RECIPE, "--edit", "optdigits=0.4,textures=-0.2", "--out", str(out))
    assert result.exit_code == 0
    combined = read_task_vector(out)
    assert combined.provenance.tasks == ("optdigits", "textures")
    assert combined.provenance.base_sha256 == BASE
    for name, tensor in combined.tensors.items():
        expected = 0.4 * vectors["optdigits"].tensors[name] - 0.2 * vectors["textures"].tensors[name]
        torch.testing.assert_close(tensor, expected)
    before = out.read_bytes()
    again = run("vectors", "combine", MODEL, RECIPE, "--edit", "optdigits=1", "--out", str(out))
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    assert out.read_bytes() == before


EDIT = ("--edit", "optdigits=0.4,textures=-0.2", "--out")


def test_a_sum_by_name_is_the_same_file(vectors: dict[str, TaskVector], run: Run) -> None:
    assert run("vectors", "combine", MODEL, RECIPE, *EDIT, "a").exit_code == 0
    assert run("vectors", "combine", MODEL, RECIPE, *EDIT, "b", "--method", "sum").exit_code == 0
    assert Path("a").read_bytes() == Path("b").read_bytes()


def test_merged_vectors_are_combined(vectors: dict[str, TaskVector], run: Run) -> None:
    how = ("--method", "ties", "--option", "keep=0.5", "--modifier", "lines:slope=0.1")
    result = run("vectors", "combine", MODEL, RECIPE, *EDIT, "a", *how)
    assert result.exit_code == 0, result.output
    assert "a: optdigits=0.4,textures=-0.2 of mini-clip standard_ties_lines, norm " in result.stdout
    combined = read_task_vector(Path("a"))
    assert combined.provenance.recipe == "standard_ties_lines"
    assert combined.provenance.tasks == ("optdigits", "textures")
    parts = merge(list(vectors.values()), Step("ties", {"keep": 0.5}), [Step("lines", {"slope": 0.1})])
    for name, tensor in combined.tensors.items():
        torch.testing.assert_close(tensor, 0.4 * parts[0].tensors[name] - 0.2 * parts[1].tensors[name])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (["--method", "tise"], "unknown merging method 'tise'; choose from average"),
        (["--option", "keep=0.2"], "merging method sum: unknown option 'keep'; choose from none"),
        (["--modifier", "svd"], "unknown merging modifier 'svd'; choose from lines, svc"),
        (["--method", "regmean"], "merging method regmean: needs images of every task; choose from average"),
        (
            ["--method", "regmean_plus_plus"],
            "merging method regmean_plus_plus: needs images of every task; choose from",
        ),
        (["--method", "ties", "--edit", "textures=1"], "merging takes two or more task vectors, not 1"),
    ],
)
def test_mistakes_of_a_merge_write_nothing(
    vectors: dict[str, TaskVector], run: Run, how: list[str], message: str
) -> None:
    result = run("vectors", "combine", MODEL, RECIPE, *EDIT, "a", *how)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert message in line
    assert not Path("a").exists()


def test_vectors_of_different_pretrained_weights(vectors: dict[str, TaskVector], run: Run) -> None:
    other = Provenance(MODEL, ("textures",), RECIPE, "weight", "ef" * 32, 0, "cd" * 32)
    write_task_vector(layout.task_vector(MODEL, RECIPE, "textures"), TaskVector(vectors["textures"].tensors, other))
    result = run("vectors", "combine", MODEL, RECIPE, "--edit", "optdigits=1,textures=1", "--out", "x.safetensors")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert BASE[:12] in line
    assert "efefefefefef" in line
    assert not Path("x.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", MODEL, "nkt", "textures"], "textures has one of mini-clip/standard"),
        (["show", MODEL, RECIPE, "cifar"], "TASK: unknown task 'cifar'; choose from cars, cifar10, cifar100, clipart"),
        (["show", MODEL, RECIPE, "signs"], "signs has none; `dvc repro` makes them"),
        (["combine", MODEL, RECIPE, "--edit", "cifar=1", "--out", "x"], "--edit: unknown task 'cifar'"),
    ],
)
def test_mistakes_are_one_line(vectors: dict[str, TaskVector], run: Run, arguments: list[str], message: str) -> None:
    result = run("vectors", *arguments)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_a_damaged_vector(vectors: dict[str, TaskVector], run: Run) -> None:
    path = layout.task_vector(MODEL, RECIPE, "textures")
    path.write_bytes(path.read_bytes()[:-3])
    result = run("vectors", "list")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert f"{path}: damaged" in line


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize(
    "command", [("list",), ("show", MODEL, RECIPE, "textures"), ("combine", MODEL, RECIPE, "--edit", "textures=1")]
)
def test_a_vector_in_anothers_place(command: tuple[str, ...], run: Run) -> None:
    path = layout.task_vector(MODEL, RECIPE, "textures")
    path.write_bytes(layout.task_vector(MODEL, RECIPE, "optdigits").read_bytes())
    result = run("vectors", *command, *(("--out", "a.safetensors") if command[0] == "combine" else ()))
    assert result.exit_code == 1
    assert f"{path}: belongs to task 'optdigits', not to 'textures'; restore it with " in result.stderr
    assert not Path("a.safetensors").exists()


def test_no_vectors(project: Path, run: Run) -> None:
    result = run("vectors", "list")
    assert result.exit_code == 1
    assert "no such task vector; make them with `dvc repro task_vector`" in result.stderr
