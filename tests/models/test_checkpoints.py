"""Files of checkpoints and task vectors: what they record, what they refuse to hold."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.errors import UserError
from pipeline.io.arrays import read_arrays, write_arrays
from pipeline.models.checkpoints import Provenance, code_fingerprint, read_tensors, write_tensors
from tests.conftest import ROOT
from tests.test_declarations import FREE

ORIGIN = Provenance("tiny", ("digits",), "standard", "weight", "a" * 64, 0, "c" * 64)


@pytest.mark.parametrize("imported_from", [None, "finetuned.pt, SHA-256 ab"])
def test_the_first_version_of_the_format_is_still_read(imported_from: str | None, tmp_path: Path) -> None:
    """It called the recipe a paradigm."""
    origin = replace(ORIGIN, imported_from=imported_from)
    path = tmp_path / "vector.safetensors"
    write_tensors(path, {"a": torch.ones(2)}, origin)
    arrays, metadata = read_arrays(path)
    assert "paradigm" not in metadata
    old = {("paradigm" if key == "recipe" else key): value for key, value in metadata.items()}
    write_arrays(path, arrays, {**old, "format_version": 1})
    tensors, header = read_tensors(path)
    assert header == origin
    assert tensors["a"].equal(torch.ones(2))


@pytest.mark.parametrize("change", [{"tasks": 3}, {"tasks": [1]}, {"seed": "x"}, {"recipe": []}, {"space": "log"}])
def test_an_entry_of_the_wrong_type_is_one_line(change: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "vector.safetensors"
    write_tensors(path, {"a": torch.ones(2)}, ORIGIN)
    arrays, metadata = read_arrays(path)
    write_arrays(path, arrays, {**metadata, **change})
    with pytest.raises(UserError, match=f"metadata entry '{next(iter(change))}' has the wrong type"):
        read_tensors(path)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_neither_written_nor_read(number: float, tmp_path: Path) -> None:
    path = tmp_path / "vector.safetensors"
    weights = {"fine": torch.ones(2), "broken": torch.tensor([0.0, number])}
    with pytest.raises(UserError, match=r"task vector tiny/standard/digits: tensor 'broken' holds NaN or infinity"):
        write_tensors(path, weights, ORIGIN)
    assert list(tmp_path.iterdir()) == []
    write_tensors(path, {"broken": torch.zeros(2)}, ORIGIN)
    _, metadata = read_arrays(path)
    metadata.pop("sha256", None)
    write_arrays(path, {"broken": weights["broken"].numpy()}, metadata)
    with pytest.raises(UserError, match=r"vector\.safetensors: tensor 'broken' holds NaN or infinity; make it again"):
        read_tensors(path)


def test_the_fingerprint_of_the_code_leaves_out_what_no_stage_depends_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a change there would alter bytes in a fresh clone while dvc.lock stays as it is."""
    before = code_fingerprint()
    loaded = [module for name, module in sys.modules.items() if name.split(".")[0] == "pipeline"]
    free, others = [], []
    for module in loaded:
        if module.__file__:
            path = Path(module.__file__).relative_to(ROOT).as_posix()
            (free if path.startswith(FREE) else others).append(module)
    assert {"pipeline", "pipeline.config.parameters", "pipeline.errors"} <= {module.__name__ for module in free}
    (tmp_path / "changed.py").write_text("# another source")
    for module in free:
        monkeypatch.setattr(module, "__file__", str(tmp_path / "changed.py"))
    assert code_fingerprint() == before
    for module in others:
        with monkeypatch.context() as patched:
            patched.setattr(module, "__file__", str(tmp_path / "changed.py"))
            assert code_fingerprint() != before
