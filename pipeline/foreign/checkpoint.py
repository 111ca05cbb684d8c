"""Read the tensors of another project's checkpoint, in any supported format, under their own names."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipeline.errors import UserError
from pipeline.foreign.file_kinds import READ, file_kind
from pipeline.foreign.nesting import named_tensors
from pipeline.foreign.pickles import Unreadable, read_archive
from pipeline.foreign.shards import ShardIndex, find_index, is_index, shard_by_name
from pipeline.io.arrays import METADATA_KEY, read_arrays
from pipeline.io.files import file_sha256
from pipeline.models.checkpoints import Provenance, provenance_of

# Names of the weights in a folder of Hugging Face or open_clip, the safe formats first.
_IN_FOLDERS = (
    *("model.safetensors", "open_clip_model.safetensors"),
    *("pytorch_model.bin", "open_clip_pytorch_model.bin"),
)
_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth", ".ckpt"})
# Files of a training state that have these suffixes, and no weights.
_STATES = re.compile(r"(optimizer|scheduler|scaler|sampler|rng_state|training_args)([_.].*)?", re.IGNORECASE)
_ADAPTERS = re.compile(r"adapter_model\b.*", re.IGNORECASE)
# Types of safetensors that the library reads.
_TYPES = frozenset(
    {
        *("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "BF16", "F32", "F64", "C64", "F4"),
        *("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"),
    }
)
# Maximum number of prefixes or names listed in a message.
_LISTED = 5


@dataclass(frozen=True)
class ForeignCheckpoint:
    """The content of a weights file.

    path: the file itself or, if sharded, its index; never a folder.
    sha256: of the file; of a sharded one, over its shards' names and hashes.
    tensors: every tensor, by its path inside the file.
    quick_gelu: whether the configuration beside it asks for QuickGELU; ``None`` without one.
    provenance: of a checkpoint or task vector that Tauflow wrote; ``None`` for all others.
    prefix: what was removed from the tensors' names, if only a part of the file was chosen.
    notes: what the user should know about the choice of the file.
    """

    path: Path
    sha256: str
    tensors: Mapping[str, Tensor | Unreadable]
    quick_gelu: bool | None
    provenance: Provenance | None = None
    prefix: str = ""
    notes: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Return the origin to record in an imported task vector."""
        part = f", {self.prefix}*" if self.prefix else ""
        return f"{self.path.name}{part}, SHA-256 {self.sha256}"

    def under(self, prefix: str) -> "ForeignCheckpoint":
        """Return the part of the checkpoint whose names start with a prefix, which is removed.

        Raises:
            UserError: no name starts with it; the message lists the prefixes that exist.
        """
        dotted = f"{prefix.rstrip('.')}." if prefix else ""
        tensors = {n.removeprefix(dotted): tensor for n, tensor in self.tensors.items() if n.startswith(dotted)}
        if not tensors:
            existing = dict.fromkeys(f"{name.partition('.')[0]}." for name in self.tensors if "." in name)
            raise UserError(
                f"{self.path}: no tensor's name starts with {dotted!r}; choose --prefix from {listed(existing)}"
            )
        return replace(self, tensors=tensors, prefix=dotted)


def listed(names: Mapping[str, Any] | list[str]) -> str:
    """Return the first few names, quoted so that control characters are harmless."""
    shown = [repr(name[:80]) for name in list(names)[:_LISTED]]
    return ", ".join(shown) + (", …" if len(names) > _LISTED else "")


def read_foreign(path: Path) -> ForeignCheckpoint:
    """Read a safetensors file, an archive of ``torch.save``, a sharded checkpoint or a folder; execute no code.

    Raises:
        UserError: the file is missing, damaged, of another format, or holds no tensors.
    """
    try:
        file, *twins = _weights_in(path) if path.is_dir() else [path]
        if not file.is_file():
            kind = "not a regular file" if file.exists() else "no such file"
            raise UserError(f"{file}: {kind}; name a checkpoint, or a folder with one")
        checkpoint = _read_sharded(file) if is_index(file) else _read_whole(file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or type(error).__name__}") from None
    if not twins:
        return checkpoint
    names = listed([twin.name for twin in twins])
    return replace(checkpoint, notes=(f"{file.name} was read, and not {names} beside it; they usually hold the same",))


def _read_whole(file: Path) -> ForeignCheckpoint:
    number = shard_by_name(file)
    if number:
        raise UserError(
            f"{file}: shard {number} by its name; name the folder, or the index (*.index.json) beside it, or rename "
            "the file if it is whole"
        )
    tensors = _read_tensors(file)
    return ForeignCheckpoint(file, file_sha256(file), tensors, _quick_gelu(file.parent), _own_provenance(file))


def _read_sharded(index_file: Path) -> ForeignCheckpoint:
    index = ShardIndex.read(index_file)
    tensors: dict[str, Tensor | Unreadable] = {}
    for shard, names in index.shards.items():
        if not shard.is_file():
            raise UserError(f"{shard}: no such file, but {index_file.name} names it; download all shards")
        content = _read_tensors(shard)
        different = sorted(content.keys() ^ names)
        if different:
            raise UserError(f"{shard}: {index_file.name} disagrees about {listed(different)}; download both again")
        tensors |= content
    return ForeignCheckpoint(index_file, index.sha256(), tensors, _quick_gelu(index_file.parent))


def _read_tensors(file: Path) -> dict[str, Tensor | Unreadable]:
    tensors: dict[str, Tensor | Unreadable] = {}
    kind = file_kind(file)
    content = _read_safetensors(file) if kind == "safetensors" else read_archive(file)
    for name, tensor in named_tensors(content):
        if name in tensors:
            raise UserError(f"{file}: has two tensors called {name[:80]!r}; save it with distinct names")
        tensors[name] = tensor
    if not tensors:
        raise UserError(f"{file}: holds no tensors; name a checkpoint of an image encoder")
    return tensors


def _weights_in(folder: Path) -> list[Path]:
    """Return the weights file or index of a folder, and then the files that hold the same by their names."""
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and p.is_file())
    weights = [file for file in files if not _STATES.fullmatch(file.name)]
    index = find_index(folder)
    chosen = index or next((folder / name for name in _IN_FOLDERS if (folder / name).is_file()), None)
    if chosen is None and any(map(shard_by_name, weights)):
        raise UserError(f"{folder}: has shards, but no index (*.index.json) of them; download it as well")
    if chosen is None and len(weights) > 1:
        raise UserError(f"{folder}: has several weights files; name one of {listed([p.name for p in weights])}")
    if not (chosen or weights):
        raise UserError(f"{folder}: has no weights ({', '.join(sorted(_SUFFIXES))}); name the file itself")
    chosen = chosen or weights[0]
    own = ShardIndex.read(index).shards if index else [chosen]
    others = [file for file in weights if file not in own]
    _check_others(folder, chosen, others)
    return [chosen, *others]


def _check_others(folder: Path, chosen: Path, others: list[Path]) -> None:
    """Check that the other weights files of a folder are the same weights for other libraries, by their names."""
    adapters = [file.name for file in others if _ADAPTERS.fullmatch(file.name)]
    if adapters:
        raise UserError(
            f"{folder}: has an adapter, {listed(adapters)}, beside {chosen.name}; merge it into the weights, or name "
            "the file itself"
        )
    unknown = [file.name for file in others if _library(file) is None or _library(file) == _library(chosen)]
    if unknown:
        raise UserError(f"{folder}: has {listed(unknown)} beside {chosen.name}; name the file instead of the folder")


def _library(file: Path) -> tuple[str, bool] | None:
    """Return for which library and in which format a file is, by its name; ``None`` if this name is not fixed."""
    whole = re.sub(r"-\d+-of-\d+(?=\.\w+$)|\.index(\.\w+)?\.json$", "", file.name)
    if whole not in _IN_FOLDERS:
        return None
    return whole.partition("model")[0].removesuffix("pytorch_"), "safetensors" in whole


def _own_provenance(file: Path) -> Provenance | None:
    """Return the provenance of a checkpoint or task vector that Tauflow wrote, having checked the file's hash."""
    if file_kind(file) != "safetensors":
        return None
    with safe_open(file, framework="pt") as content:
        if METADATA_KEY not in (content.metadata() or {}):
            return None
    _, metadata = read_arrays(file)
    return provenance_of(file, metadata) if "format_version" in metadata else None


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(file, framework="pt") as content:
            return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RuntimeError):
        raise UserError(f"{file}: {_safetensors_fault(file)}") from None


def _safetensors_fault(file: Path) -> str:
    """Return the fault of a safetensors file that the library refuses."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        end = 8 + int.from_bytes(stream.read(8), "little")
        header = stream.read(end - 8) if end <= size else b""
    types: dict[str, str] = {}
    try:
        entries = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        needed = end + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        types = {name: str(entry["dtype"]) for name, entry in entries.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        needed = end
    if needed > size:
        return f"cut short: {size:,} of {needed:,} bytes are there; download or copy it again"
    for name, kind in types.items():
        if kind not in _TYPES:
            return f"tensor {name[:80]!r} is of type {kind[:80]!r}, which is not read; save it as float32"
    return f"damaged, or not a safetensors file; download or copy it again (read are {READ})"


def _quick_gelu(folder: Path) -> bool | None:
    """Return the activation that a configuration of Hugging Face or open_clip asks for; their defaults differ."""
    path = folder / "config.json"
    config = _json(path)
    if re.match("clip", str(config.get("model_type", ""))):
        vision = config.get("vision_config", config)
        return _mapping(path, "vision_config", vision).get("hidden_act", "quick_gelu") == "quick_gelu"
    path = folder / "open_clip_config.json"
    config = _json(path).get("model_cfg")
    return None if config is None else bool(_mapping(path, "model_cfg", config).get("quick_gelu", False))


def _json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {error.strerror}; remove it unless it belongs to the weights"
        ) from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not valid JSON; remove it unless it belongs to the weights") from None
    return _mapping(path, "its content", content)


def _mapping(path: Path, where: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UserError(
            f"{path}: {where} is a {type(value).__name__}, not an object; remove it unless it belongs to the weights"
        )
    return value
