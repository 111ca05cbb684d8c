"""Pickled files are read and never run."""

import builtins
import importlib.util
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.errors import UserError
from pipeline.foreign.checkpoint import read_foreign
from pipeline.foreign.pickles import read_pickle
from tests.foreign.conftest import THEIRS


def test_a_pickled_module_is_read_without_its_class(tuned: nn.Module, pickled: Callable[[nn.Module], Path]) -> None:
    path = pickled(tuned)
    assert importlib.util.find_spec(THEIRS) is None
    with pytest.raises(pickle.UnpicklingError):  # which torch alone does not read without running it
        torch.load(path, weights_only=True)
    found = read_pickle(path)
    assert THEIRS not in sys.modules
    expected = {f"model.{name}": tensor for name, tensor in tuned.state_dict().items()}
    assert found.keys() == expected.keys()
    assert all(tensor.equal(expected[name]) for name, tensor in found.items())


class Malicious:
    """Runs a function when an ordinary unpickler reads it."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("name", ["os.system", "builtins.exec", "builtins.eval", "builtins.getattr"])
def test_code_in_a_pickle_does_not_run(name: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "evil.pt"
    code = f"__import__('os').mkdir({str(marker)!r})"
    call = {
        "os.system": Malicious(os.system, f"mkdir {marker}"),
        "builtins.exec": Malicious(builtins.exec, code),
        "builtins.eval": Malicious(builtins.eval, code),
        "builtins.getattr": Malicious(builtins.getattr, Malicious(builtins.eval, code), "__class__"),
    }[name]
    torch.save({"visual.proj": torch.ones(2), "other": call}, path)
    torch.load(path, weights_only=False)
    assert marker.exists()  # so it does where pickles are trusted
    marker.rmdir()
    try:
        assert set(read_foreign(path).tensors) == {"visual.proj"}
    except UserError as error:
        assert "cannot be read without running its code, so it is refused: " in str(error)  # noqa: PT017
    assert not marker.exists()


def test_a_class_of_ours_is_inert_too(tmp_path: Path) -> None:
    """Not even what is loaded already is made from a file."""
    torch.save({"a": Path("x"), "b": torch.ones(1)}, tmp_path / "a.pt")
    found = read_pickle(tmp_path / "a.pt")
    assert not isinstance(found["a"], Path)
    assert found["b"].equal(torch.ones(1))


def test_a_training_framework_nests_the_state_dict(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {"a": torch.ones(1)}}, tmp_path / "a.pt")
    assert list(read_pickle(tmp_path / "a.pt")) == ["a"]


def test_the_format_before_torch_1_6(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert list(read_pickle(tmp_path / "a.pt")) == ["a"]


def test_what_cannot_be_read_is_refused(tmp_path: Path, tuned: nn.Module) -> None:
    script = torch.jit.script(nn.Linear(2, 2))
    script.save(str(tmp_path / "script.pt"))
    (tmp_path / "text.pt").write_text("no checkpoint")
    (tmp_path / "empty.pt").touch()
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"a": 1}, tmp_path / "numbers.pt")
    cut = (tmp_path / "script.pt").read_bytes()[:-200]
    (tmp_path / "cut.pt").write_bytes(cut)
    (tmp_path / "x.safetensors").write_bytes(b"\0" * 20)
    (tmp_path / "folder").mkdir()
    for name, message in (
        ("script.pt", "torchscript"),
        ("text.pt", "cannot be read without running its code"),
        ("empty.pt", "cannot be read"),
        ("cut.pt", "cannot be read"),
        ("list.pt", "holds a list, neither a module nor a state dict"),
        ("numbers.pt", "holds no tensors"),
        ("none.pt", "no such file"),
        ("x.safetensors", "damaged or no safetensors file"),
        ("folder", "has none of model.safetensors, open_clip_model.safetensors"),
    ):
        with pytest.raises(UserError) as error:
            read_foreign(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path / name))
        assert message in str(error.value)
        assert "\n" not in str(error.value)
