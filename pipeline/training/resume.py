"""The state from which a killed fine-tuning resumes."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from pipeline.errors import UserError
from pipeline.io.arrays import read_arrays, write_arrays
from pipeline.io.files import file_sha256
from pipeline.training.curve import StepRecord


def resume_key(parameters: Mapping[str, Any], inputs: Iterable[Path]) -> str:
    """Return a hash of everything that must be equal to resume from a state: parameters and bytes of the inputs."""
    content = {**parameters, "torch": torch.__version__, "inputs": {str(path): file_sha256(path) for path in inputs}}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(section: object) -> Any:
    """Return a section of the parameters as JSON values."""
    if isinstance(section, BaseModel):
        return section.model_dump()
    raise TypeError(f"{section!r} cannot be part of a key")


@dataclass(frozen=True)
class ResumeFile:
    """θ, the optimiser's state and the curve so far, in one file that is written every ``interval`` steps.

    A file with another ``key`` is ignored.
    """

    path: Path
    key: str
    interval: int

    def save(self, trained: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, curve: list[StepRecord]) -> None:
        """Write the state after the last step of ``curve``."""
        arrays = {f"theta.{name}": tensor.detach().cpu().numpy() for name, tensor in trained.items()}
        for index, entries in optimizer.state_dict()["state"].items():
            arrays |= {f"optimizer.{index}.{name}": tensor.cpu().numpy() for name, tensor in entries.items()}
        arrays["curve"] = np.array([astuple(record) for record in curve], dtype=np.float64)
        write_arrays(self.path, arrays, {"key": self.key})

    def load(self, trained: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> list[StepRecord]:
        """Restore the state in place and return the curve so far, which is empty if there is nothing to resume."""
        if not self.path.exists():
            return []
        try:
            arrays, metadata = read_arrays(self.path)
        except UserError:
            raise UserError(f"{self.path}: damaged; delete it to start the fine-tuning again") from None
        if metadata.get("key") != self.key:
            return []
        with torch.no_grad():
            for name, tensor in trained.items():
                tensor.copy_(torch.from_numpy(arrays[f"theta.{name}"]))
        state: dict[int, dict[str, Tensor]] = {}
        for key in [key for key in arrays if key.startswith("optimizer.")]:
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = torch.from_numpy(arrays[key])
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        return [StepRecord(int(step), int(epoch), *rest) for step, epoch, *rest in arrays["curve"].tolist()]

    def delete(self) -> None:
        """Delete the state once the fine-tuning has ended."""
        self.path.unlink(missing_ok=True)
