"""``tauflow vectors``, on made-up task vectors."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.editing import TaskVector, read_task_vector, write_task_vector
from pipeline.models.checkpoints import Provenance
from tauflow import layout
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
        (["show", MODEL, RECIPE, "cifar"], "task 'cifar' is unknown; legal are cars, clipart"),
        (["show", MODEL, RECIPE, "signs"], "signs has none; `dvc repro` makes them"),
        (["combine", MODEL, RECIPE, "--edit", "cifar=1", "--out", "x"], "--edit: task 'cifar' is unknown"),
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


def test_no_vectors(project: Path, run: Run) -> None:
    result = run("vectors", "list")
    assert result.exit_code == 1
    assert "there is no task vector; make them with `dvc repro task_vector`" in result.stderr
