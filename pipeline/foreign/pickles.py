"""Tensors out of files that ``torch.save`` wrote, pickled modules among them, without running anything of theirs.

torch's own restricted unpickler reads the file. It builds tensors and containers only; every class or function that the
file names besides becomes an inert record here, so that nothing is imported or called.
"""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from pipeline.errors import UserError

# Of the attributes of a pickled ``nn.Module``, those that make its state dict.
_TENSORS = ("_parameters", "_buffers")
_CHILDREN = "_modules"
_NOT_SAVED = "_non_persistent_buffers_set"


class _Inert:
    """What stands for an object of a class that is not loaded: it takes anything and does nothing."""

    def __new__(cls, *arguments: object) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *arguments: object) -> None: ...

    def __setstate__(self, state: object) -> None:
        self.state = state


def read_pickle(path: Path) -> dict[str, Any]:
    """The entries of a state dict, or of the state dict that a pickled module has, by their names.

    Raises:
        UserError: the file is missing, damaged, a TorchScript archive, or holds neither.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True) if _is_plain(path) else _load_inert(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError) as error:
        said = " ".join(str(error).split())
        said = said.partition("WeightsUnpickler error: ")[2].partition(" Please")[0] or said  # not: trust the file
        raise UserError(f"{path}: cannot be read without running its code, so it is refused: {said[:200]}") from None
    if isinstance(content, _Inert):
        return dict(_module_entries(content, ""))
    if isinstance(content, Mapping):
        nested = content.get("state_dict")  # as training frameworks save it
        return {str(name): value for name, value in (nested if isinstance(nested, Mapping) else content).items()}
    raise UserError(f"{path}: holds a {type(content).__name__}, neither a module nor a state dict")


def _is_plain(path: Path) -> bool:
    """Whether the file names no class that torch's unpickler does not know, or is of the format before torch 1.6."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    return not zipped or not get_unsafe_globals_in_checkpoint(str(path))


def _load_inert(path: Path) -> object:
    stand_ins: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (type(name.rpartition(".")[2], (_Inert,), {}), name) for name in get_unsafe_globals_in_checkpoint(str(path))
    ]
    with safe_globals(stand_ins):
        return torch.load(path, map_location="cpu", weights_only=True)


def _module_entries(module: _Inert, prefix: str) -> list[tuple[str, Tensor]]:
    """What ``state_dict()`` of a pickled module would give, and nothing of an object that is no module."""
    state = getattr(module, "state", None)
    if not isinstance(state, Mapping):
        return []
    left_out = state.get(_NOT_SAVED) or ()
    found = [
        (f"{prefix}{name}", tensor)
        for kind in _TENSORS
        for name, tensor in (state.get(kind) or {}).items()
        if isinstance(tensor, Tensor) and name not in left_out
    ]
    for name, child in (state.get(_CHILDREN) or {}).items():
        if isinstance(child, _Inert):
            found += _module_entries(child, f"{prefix}{name}.")
    return found
