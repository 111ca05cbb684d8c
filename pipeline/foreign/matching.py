"""Find the image encoder in a foreign checkpoint, and open_clip's name for each of its tensors."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.foreign import huggingface
from pipeline.foreign.checkpoint import ForeignCheckpoint, listed
from pipeline.foreign.pickles import Unreadable
from pipeline.models.checkpoints import Space, check_finite

# A model linearised by functorch has unnamed lists of parameters: ``params`` is θ, ``params0`` is θ₀.
_LINEARISED = re.compile(r"(.*\b)params(0?)\.(\d+)")
# Tensors that only a text tower has; its transformer has the same names as the image encoder's.
_TEXT_TOWER = ("token_embedding.weight", "ln_final.weight")
# Parts of a training state that have the names of the weights, but other values.
_NO_WEIGHTS = re.compile(
    r"optim(izer)?(s|_states?(_dict)?)?|exp_avg(_sq)?|max_exp_avg_sq|momentum(_buffer)?|grads?|gradients?"
)
# Tensors from which a module computes its weights: adapters and re-parametrisations.
_ADAPTER = re.compile(r"(.*\.)?(lora_|base_layer\.|hada_|ia3_|vera_|dora_).*")
_PARAMETRISED = re.compile(r"(.*\.)?parametrizations\..*|.*_(orig|mask|g|v|u)")
_READ = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

Entries = Mapping[str, Tensor | Unreadable]


@dataclass(frozen=True)
class Matched:
    """θ in float32, by open_clip's names of the image encoder's tensors; some may be missing.

    space: the space it was trained in, according to the format.
    base_is_known: whether the file also contains θ₀, equal to the given one.
    rounded: whether a tensor was of lower precision than float32.
    """

    tensors: dict[str, Tensor]
    space: Space
    base_is_known: bool
    rounded: bool


@dataclass(frozen=True)
class _Encoder:
    """An image encoder in a file: the entries under a prefix, named without it.

    matching: number of entries that belong to an image encoder.
    """

    prefix: str
    form: Literal["open_clip", "huggingface", "linearised"]
    entries: Entries
    matching: int


def match(checkpoint: ForeignCheckpoint, base: Mapping[str, Tensor]) -> Matched:
    """Return the image encoder's tensors in a checkpoint of any known format.

    Args:
        checkpoint: the file.
        base: θ₀, all tensors of the image encoder by open_clip's names.

    Raises:
        UserError: the file holds no such encoder or several, holds one of another architecture, starts from another θ₀,
            or a tensor is not dense floating point or not finite.
    """
    where = str(checkpoint.path)
    encoder = _only_encoder(where, checkpoint.tensors, base)
    for name, entry in encoder.entries.items():
        if isinstance(entry, Unreadable):
            raise UserError(f"{where}: tensor {encoder.prefix + name!r} is {entry.kind}; save it as a dense one")
    read = {name: entry for name, entry in encoder.entries.items() if isinstance(entry, Tensor)}
    try:
        if encoder.form == "linearised":
            named = _by_content(read, base)
        else:
            named = huggingface.image_encoder(read) if encoder.form == "huggingface" else read
            _check_names(encoder.prefix if encoder.form == "open_clip" else "", named, base)
        _check_types(named, base)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    check_finite(named, where, "the checkpoint is of no use")
    tensors = {name: tensor.detach().float() for name, tensor in named.items()}
    check_finite(tensors, f"{where}: in float32", "the checkpoint is of no use")
    rounded = any(tensor.is_floating_point() and tensor.element_size() < 4 for tensor in named.values())
    linearised = encoder.form == "linearised"
    return Matched(tensors, "tangent" if linearised else "weight", linearised, rounded)


def _only_encoder(where: str, entries: Entries, base: Mapping[str, Tensor]) -> _Encoder:
    encoders = [*_linearised(entries), *_huggingface(entries), *_open_clip(entries, base)]
    encoders = [encoder for encoder in encoders if not any(map(_NO_WEIGHTS.fullmatch, encoder.prefix.split(".")))]
    if not encoders and any(map(_ADAPTER.fullmatch, entries)):
        raise UserError(f"{where}: holds an adapter and not the weights; merge it into them and save those")
    if not encoders:
        raise UserError(f"{where}: holds no image encoder of this model; its tensors are named {listed([*entries])}")
    largest = max(encoders, key=lambda encoder: encoder.matching)
    # Smaller matches are coincidences of names, unless they cover a large part of an encoder.
    rivals = [e for e in encoders if 2 * e.matching >= largest.matching and not _same(e, largest)]
    if rivals:
        prefixes = [encoder.prefix for encoder in (largest, *rivals)]
        raise UserError(
            f"{where}: holds {len(prefixes)} image encoders, named {listed(sorted(prefixes))}; choose with --prefix"
        )
    return largest


def _same(first: _Encoder, second: _Encoder) -> bool:
    if first.entries.keys() != second.entries.keys():
        return False
    pairs = ((first.entries[name], second.entries[name]) for name in first.entries)
    return all(a is b or (isinstance(a, Tensor) and isinstance(b, Tensor) and _equal(a, b)) for a, b in pairs)


def _equal(first: Tensor, second: Tensor) -> bool:
    return first.dtype == second.dtype and first.shape == second.shape and bool(torch.equal(first, second))


def _under(prefix: str, entries: Entries) -> dict[str, Tensor | Unreadable]:
    return {name.removeprefix(prefix): entry for name, entry in entries.items() if name.startswith(prefix)}


def _linearised(entries: Entries) -> list[_Encoder]:
    matches = [m for name in entries if (m := _LINEARISED.fullmatch(name))]
    numbered = Counter(m[1] for m in matches if m[2])
    return [
        _Encoder(
            prefix, "linearised", {n: e for n, e in _under(prefix, entries).items() if _LINEARISED.match(n)}, count
        )
        for prefix, count in numbered.items()
    ]


def _huggingface(entries: Entries) -> list[_Encoder]:
    encoders = []
    for prefix, vision in huggingface.vision_models(entries):
        part = {n: e for n, e in _under(prefix, entries).items() if huggingface.is_of_vision_model(n, vision)}
        encoders.append(_Encoder(prefix, "huggingface", part, len(part)))
    return encoders


def _open_clip(entries: Entries, base: Mapping[str, Tensor]) -> list[_Encoder]:
    """Find θ₀'s names behind some prefix, such as ``model.visual.``."""
    counts = Counter(name.removesuffix(wanted) for name in entries for wanted in _endings(name) if wanted in base)
    return [
        _Encoder(prefix, "open_clip", _under(prefix, entries), count)
        for prefix, count in counts.items()
        if not any(prefix + name in entries for name in _TEXT_TOWER)
    ]


def _endings(name: str) -> list[str]:
    """Return ``a.b.c``, ``b.c`` and ``c`` of ``a.b.c``."""
    parts = name.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]


def _check_names(prefix: str, tensors: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if name not in base:
            raise UserError(f"tensor {(prefix + name)[:80]!r} {_unknown(name)}")
        if base[name].shape != tensor.shape:
            raise UserError(
                f"tensor {prefix + name!r} is {list(tensor.shape)}, but {list(base[name].shape)} in this model; choose "
                "another --model"
            )


def _unknown(name: str) -> str:
    """Return what is wrong with a tensor that the model does not have."""
    if _ADAPTER.fullmatch(name):
        return "is an adapter's; merge it into the weights and save those"
    if _PARAMETRISED.fullmatch(name):
        return "is of a re-parametrised or pruned weight; make that permanent and save it"
    return "does not exist in this model; choose another --model"


def _check_types(tensors: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        readable = _READ if base[name].is_floating_point() else (base[name].dtype,)
        if tensor.dtype not in readable:
            raise UserError(
                f"tensor {name!r} is {_type_name(tensor.dtype)}; save it as {', '.join(map(_type_name, readable))}"
            )


def _type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _by_content(numbered: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name the numbered parameters by the file's own θ₀, since their order depends on open_clip's version."""
    tuned, origin = (
        {m[3]: tensor for name, tensor in numbered.items() if (m := _LINEARISED.fullmatch(name)) and m[2] == zero}
        for zero in ("", "0")
    )
    positions: dict[str, list[str]] = {}
    for position, tensor in origin.items():
        positions.setdefault(_content(tensor), []).append(position)
    contents = Counter(_content(tensor) for tensor in base.values())
    tensors = {}
    for name, tensor in base.items():
        content = _content(tensor)
        matching = positions.get(content, [])
        if not matching:
            raise UserError(f"starts from another θ₀: its params0 has nothing equal to this model's {name!r}")
        if len(matching) > 1 or contents[content] > 1:
            raise UserError(f"{name!r} has an equal in θ₀, so the parameters cannot be told apart")
        position = matching[0]
        if position not in tuned or tuned[position].shape != tensor.shape:
            raise UserError(f"params.{position} is missing or of another shape than params0.{position}")
        tensors[name] = tuned[position]
    return tensors


def _content(tensor: Tensor) -> str:
    array = tensor.detach().float().contiguous().numpy()
    return hashlib.sha256(f"{array.shape}".encode() + array.tobytes()).hexdigest()
