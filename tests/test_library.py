"""``from tauflow import …``: the functions for programs, and that importing the package stays cheap."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file

import tauflow
from pipeline.errors import UserError
from pipeline.models import load_model_definition
from tauflow import TaskVector, evaluate, load, merge, save

MODEL = "mini-clip"
MOVED = "visual.transformer.resblocks.0.mlp.c_fc.weight"
NAME = MOVED.removeprefix("visual.")


@pytest.fixture
def checkpoints(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Checkpoints of two tasks in the current directory; returns θ − θ₀ of the tensor that moved."""
    monkeypatch.chdir(tmp_path)
    arrays = load_file(root / load_model_definition(MODEL).weights.path)  # pyright: ignore[reportAttributeAccessIssue]
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    random = torch.Generator().manual_seed(0)
    deltas = {}
    for task in ("mnist", "svhn"):
        tuned = state[MOVED] + 0.01 * torch.randn(state[MOVED].shape, generator=random)
        torch.save({**state, MOVED: tuned}, f"{task}.pt")
        deltas[task] = tuned.double() - state[MOVED].double()
    return deltas


def test_five_lines(checkpoints: dict[str, torch.Tensor]) -> None:
    vectors = [load(f"{task}.pt", base=MODEL) for task in checkpoints]
    assert [vector.provenance.tasks for vector in vectors] == [("mnist",), ("svhn",)]
    total, expected = sum(vectors), sum(checkpoints.values())
    assert isinstance(total, TaskVector)
    assert isinstance(expected, torch.Tensor)
    torch.testing.assert_close(total.tensors[NAME].double(), expected, rtol=1e-5, atol=1e-6)
    assert repr(vectors[0]) == "TaskVector(mnist, mini-clip, checkpoint, weight space, 1 tensors)"

    merged = merge(vectors, "average")
    torch.testing.assert_close(merged.tensors[NAME].double(), expected / 2, rtol=1e-5, atol=1e-6)
    scaled = merge(vectors, "ties", {"lines": {"slope": 0.3}}, keep=0.5)
    assert scaled.provenance.tasks == ("mnist", "svhn")
    save(merged, "merged.safetensors")
    assert load("merged.safetensors").tensors[NAME].equal(merged.tensors[NAME])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, b: merge([a], "ties"), "merging takes two or more task vectors, not 1"),
        (lambda a, b: merge([a, b], "tsv"), "tsv"),
        (lambda a, b: merge([a, b], "ties", top=0.2), "merging method ties: unknown option 'top'; choose from"),
        (lambda a, b: merge([a, b], "regmean"), "merging method regmean: needs images of every task"),
        (lambda a, b: load("mnist.pt", base="ViT-X"), "ViT-X"),
        (lambda a, b: load("none.safetensors"), "none.safetensors: no such file"),
        (lambda a, b: save(a, "mnist.pt"), "mnist.pt: exists already"),
        (lambda a, b: evaluate(a, ["mnist"]), "params.yaml"),
    ],
)
def test_mistakes(call, message: str, checkpoints: dict[str, torch.Tensor]) -> None:  # pyright: ignore[reportMissingParameterType]
    vectors = [load(f"{task}.pt", base=MODEL) for task in checkpoints]
    with pytest.raises(UserError) as error:
        call(*vectors)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, tauflow; sys.exit('torch' in sys.modules or not tauflow.__version__)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match="module 'tauflow' has no attribute 'download'"):
        tauflow.download  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
