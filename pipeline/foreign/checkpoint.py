"""A checkpoint of another project, of whichever format: its tensors by the names that it has for them."""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pipeline.errors import UserError
from pipeline.files import file_sha256
from pipeline.foreign.pickles import read_pickle

# The weights in a folder as Hugging Face and open_clip write them, the safe ones first.
_IN_FOLDERS = (
    *("model.safetensors", "open_clip_model.safetensors"),
    *("pytorch_model.bin", "open_clip_pytorch_model.bin"),
)


@dataclass(frozen=True)
class ForeignCheckpoint:
    """What a file holds.

    path, sha256: the file itself, also if its folder was named.
    tensors: by the file's own names, of its own precision; what else it holds is left out.
    quick_gelu: whether the configuration beside it says that it was trained with QuickGELU; ``None`` without one.
    """

    path: Path
    sha256: str
    tensors: dict[str, Tensor]
    quick_gelu: bool | None

    @property
    def origin(self) -> str:
        """What a task vector says it was made from."""
        return f"{self.path.name}, SHA-256 {self.sha256}"


def read_foreign(path: Path) -> ForeignCheckpoint:
    """Read a safetensors file, a file of ``torch.save``, or a folder with one; runs no code of theirs.

    Raises:
        UserError: there is no such file, it is damaged, or it holds no tensors.
    """
    file = _weights_in(path) if path.is_dir() else path
    sha256 = _sha256(file)
    content = _read_safetensors(file) if file.suffix == ".safetensors" else read_pickle(file)
    tensors = {name: value.detach() for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{file}: holds no tensors; name a checkpoint of an image encoder")
    return ForeignCheckpoint(file, sha256, tensors, _quick_gelu(file.parent))


def _weights_in(folder: Path) -> Path:
    for name in _IN_FOLDERS:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder}: has none of {', '.join(_IN_FOLDERS)}; name the file itself")


def _sha256(file: Path) -> str:
    if not file.is_file():
        raise UserError(f"{file}: no such file; name a checkpoint, or a folder with one")
    return file_sha256(file)


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: damaged or no safetensors file ({' '.join(str(error).split())})") from None


def _quick_gelu(folder: Path) -> bool | None:
    """Of Hugging Face's or open_clip's configuration, whose defaults differ."""
    config = _json(folder / "config.json")
    if str(config.get("model_type", "")).startswith("clip"):
        return config.get("vision_config", config).get("hidden_act", "quick_gelu") == "quick_gelu"
    config = _json(folder / "open_clip_config.json").get("model_cfg")
    return None if config is None else bool(config.get("quick_gelu", False))


def _json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); remove it if it does not belong to the weights") from None
    return content if isinstance(content, dict) else {}
