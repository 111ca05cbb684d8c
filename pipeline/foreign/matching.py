"""Which tensor of a foreign checkpoint is which of the image encoder."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from pipeline.errors import UserError
from pipeline.foreign import huggingface
from pipeline.foreign.checkpoint import ForeignCheckpoint
from pipeline.models.checkpoints import Space

# A model linearised by functorch has lists of parameters without names: θ and θ₀.
_LINEARISED = re.compile(r"(.*\b)params(0?)\.(\d+)")


@dataclass(frozen=True)
class Matched:
    """θ by open_clip's names of the image encoder's tensors, in float32; the file may lack some.

    space: where it was trained, as the format tells.
    base_is_known: whether the file carries θ₀ too, which then is the given one.
    """

    tensors: dict[str, Tensor]
    space: Space
    base_is_known: bool


def match(checkpoint: ForeignCheckpoint, base: Mapping[str, Tensor]) -> Matched:
    """The image encoder's tensors in a checkpoint of any known format.

    Args:
        checkpoint: the file.
        base: θ₀, all tensors of the image encoder by open_clip's names.

    Raises:
        UserError: the file holds no such encoder, holds one of another architecture, or starts from another θ₀.
    """
    found = {name: tensor.float() for name, tensor in checkpoint.tensors.items()}
    where = str(checkpoint.path)
    linearised = {name: m for name in found if (m := _LINEARISED.fullmatch(name))}
    if any(m[2] for m in linearised.values()):
        lists: dict[str, dict[str, Tensor]] = {"": {}, "0": {}}
        for name, m in linearised.items():
            lists[m[2]][m[3]] = found[name]
        return Matched(_by_content(where, lists[""], lists["0"], base), "tangent", True)
    if huggingface.is_huggingface(found):
        try:
            found = huggingface.image_encoder(found)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    return Matched(_by_name(where, found, base), "weight", False)


def _by_name(where: str, found: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names are those of θ₀ behind some prefix, such as ``model.visual.``; what lacks it is no part of the encoder."""
    prefixes = Counter(name.removesuffix(wanted) for name in found for wanted in _endings(name) if wanted in base)
    if not prefixes:
        example = ", ".join(list(found)[:3])
        raise UserError(f"{where}: holds no image encoder of this model; its tensors are named {example}, …")
    prefix, _ = prefixes.most_common(1)[0]
    tensors = {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
    for name, tensor in tensors.items():
        if name not in base:
            raise UserError(f"{where}: tensor {prefix + name!r} does not exist in this model; choose another --model")
        if base[name].shape != tensor.shape:
            raise UserError(
                f"{where}: tensor {prefix + name!r} is {list(tensor.shape)}, but {list(base[name].shape)} in this "
                "model; choose another --model"
            )
    return tensors


def _endings(name: str) -> list[str]:
    """``a.b.c``, ``b.c`` and ``c``."""
    parts = name.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]


def _by_content(
    where: str, tuned: Mapping[str, Tensor], origin: Mapping[str, Tensor], base: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Positions are named by what the file's own θ₀ has there, whatever the order of its parameters was."""
    positions: dict[str, list[str]] = {}
    for position, tensor in origin.items():
        positions.setdefault(_content(tensor), []).append(position)
    contents = Counter(_content(tensor) for tensor in base.values())
    tensors = {}
    for name, tensor in base.items():
        content = _content(tensor)
        there = positions.get(content, [])
        if not there:
            raise UserError(f"{where}: starts from another θ₀: its params0 has nothing equal to this model's {name!r}")
        if len(there) > 1 or contents[content] > 1:
            raise UserError(f"{where}: {name!r} has an equal in θ₀, so that nothing tells which of params is which")
        if there[0] not in tuned or tuned[there[0]].shape != tensor.shape:
            raise UserError(f"{where}: params.{there[0]} is missing or of another shape than params0.{there[0]}")
        tensors[name] = tuned[there[0]]
    return tensors


def _content(tensor: Tensor) -> str:
    array = tensor.contiguous().numpy()
    return hashlib.sha256(f"{array.shape}".encode() + array.tobytes()).hexdigest()
