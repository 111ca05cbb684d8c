"""Find the image encoder in a foreign checkpoint, and open_clip's name for each of its tensors."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
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
_TEXT_TOWER = ("token_embedding.weight", "ln_final.weight", "embeddings.token_embedding.weight")
# Parts of a training state that have the names of the weights, but other values.
_NO_WEIGHTS = re.compile(
    r"optim(izer)?(s|_states?(_dict)?)?|exp_avg(_sq)?|max_exp_avg_sq|momentum(_buffer)?|grads?|gradients?"
)
# Tensors from which a module computes its weights: adapters and re-parametrisations.
_ADAPTER = re.compile(r"(.*\.)?(lora_|base_layer\.|hada_|ia3_|vera_|dora_).*")
_PARAMETRISED = re.compile(r"(.*\.)?parametrizations\..*|.*_(orig|mask|g|v|u)")
# Tensors beside quantised weights, as bitsandbytes and GPTQ name them.
_QUANTISED = re.compile(
    r"(.*\.)?(SCB|(nested_)?(absmax|quant_map)|quant_state\..*|weight_format|qweight|qzeros|g_idx|scales)"
)
_DIGITS = re.compile(r"\d+")
# Number of tensors from which on a part of an encoder is no coincidence of names.
_PART = 3
_READ = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

Entries = Mapping[str, Tensor | Unreadable]


@dataclass(frozen=True)
class Matched:
    """θ in float32, by open_clip's names of the image encoder's tensors; some may be missing.

    space: the space it was trained in, according to the format.
    base_is_known: whether the file also contains θ₀, equal to the given one.
    rounded: whether a tensor was of lower precision than float32.
    notes: what was left out.
    """

    tensors: dict[str, Tensor]
    space: Space
    base_is_known: bool
    rounded: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Encoder:
    """An image encoder in a file: the entries under a prefix, named without it.

    matching: number of entries that belong to an image encoder.
    left_out: parts of a training state under the prefix, which are not among the entries.
    """

    prefix: str
    form: Literal["open_clip", "huggingface", "linearised"]
    entries: Entries
    matching: int
    left_out: tuple[str, ...] = ()


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
        _check_usable(encoder.prefix, [n for n in read if n not in base])
        _check_not_empty(encoder.prefix, read, base)
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
    parts = [f"{encoder.prefix}{part}.*" for part in encoder.left_out]
    notes = (f"left out, since these are not weights: {listed(parts)}",) if parts else ()
    return Matched(tensors, "tangent" if linearised else "weight", linearised, rounded, notes)


def _only_encoder(where: str, entries: Entries, base: Mapping[str, Tensor]) -> _Encoder:
    encoders = [*_linearised(entries), *_huggingface(entries), *_open_clip(entries, base)]
    encoders = [encoder for encoder in encoders if not _is_no_weights(encoder.prefix)]
    if not encoders and any(map(_ADAPTER.fullmatch, entries)):
        raise UserError(f"{where}: holds an adapter and not the weights; merge it into them and save those")
    if not encoders:
        raise UserError(f"{where}: holds no image encoder of this model; its tensors are named {listed([*entries])}")
    largest = max(encoders, key=lambda encoder: encoder.matching)
    # Smaller matches are coincidences of names, unless they cover a large part of an encoder or fit into it.
    rivals = [e.prefix for e in encoders if 2 * e.matching >= largest.matching and not _same(e, largest)]
    partial = [prefix for prefix in _partial(entries, largest, base) if prefix not in (largest.prefix, *rivals)]
    prefixes = sorted([largest.prefix, *rivals, *partial])
    if len(prefixes) > 1:
        advice = "choose with --prefix, or save the one you want alone" if "" in prefixes else "choose with --prefix"
        raise UserError(f"{where}: holds {len(prefixes)} image encoders, named {listed(prefixes)}; {advice}")
    return largest


def _partial(entries: Entries, encoder: _Encoder, base: Mapping[str, Tensor]) -> list[str]:
    """Return the prefixes of other encoders of which a part is there: tensors of the right shape and another value."""
    wanted: Entries = base if encoder.form == "open_clip" else {**base, **encoder.entries}
    own = {encoder.prefix + name for name in wanted}
    found: Counter[str] = Counter()
    for name, entry in entries.items():
        if name in own or not isinstance(entry, Tensor):
            continue
        for ending in _endings(name):
            model, theirs = wanted.get(ending), encoder.entries.get(ending)
            fits = isinstance(model, Tensor) and model.shape == entry.shape
            if fits and not (isinstance(theirs, Tensor) and _equal(theirs, entry)):
                found[name.removesuffix(ending)] += 1
    return [
        prefix
        for prefix, count in found.items()
        if count >= _PART and not _is_no_weights(prefix) and not _is_text(prefix, entries)
    ]


def _is_no_weights(prefix: str) -> bool:
    return any(map(_NO_WEIGHTS.fullmatch, prefix.split(".")))


def _is_text(prefix: str, entries: Entries) -> bool:
    return any(prefix + name in entries for name in _TEXT_TOWER)


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
    encoders = []
    for prefix, count in counts.items():
        if not _is_text(prefix, entries):
            part = _under(prefix, entries)
            states = dict.fromkeys(first for name in part if _is_no_weights(first := name.partition(".")[0]))
            weights = {name: entry for name, entry in part.items() if name.partition(".")[0] not in states}
            encoders.append(_Encoder(prefix, "open_clip", weights, count, tuple(states)))
    return encoders


def _endings(name: str) -> list[str]:
    """Return ``a.b.c``, ``b.c`` and ``c`` of ``a.b.c``."""
    parts = name.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]


def _check_usable(prefix: str, names: Iterable[str]) -> None:
    """Check that no name says that the weights are to be computed from several tensors."""
    faults = {
        _ADAPTER: "is an adapter's; merge it into the weights and save those",
        _QUANTISED: "is quantised; take the original weights",
        _PARAMETRISED: "is of a re-parametrised or pruned weight; make that permanent and save it",
    }
    for name in names:
        for pattern, fault in faults.items():
            if pattern.fullmatch(name):
                raise UserError(f"tensor {(prefix + name)[:80]!r} {fault}")


def _check_not_empty(prefix: str, tensors: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> None:
    """Check that the tensors have values; DeepSpeed's ZeRO-3 leaves placeholders in a state dict."""
    for name, tensor in tensors.items():
        if tensor.numel() == 0 and (name not in base or base[name].numel()):
            raise UserError(f"tensor {(prefix + name)[:80]!r} has no values; gather the weights before saving")


def _check_names(prefix: str, tensors: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if name in base and base[name].shape != tensor.shape:
            raise UserError(
                f"tensor {prefix + name!r} is {list(tensor.shape)}, but {list(base[name].shape)} in this model; choose "
                "another --model"
            )
    more = [name for name in tensors if name not in base]
    layers = {_DIGITS.sub("", name) for name in base}
    if more and base.keys() <= tensors.keys() and not any(_DIGITS.sub("", name) in layers for name in more):
        raise UserError(f"holds more than the encoder: {listed([prefix + n for n in more])}; save it without them")
    if more:
        raise UserError(f"tensor {(prefix + more[0])[:80]!r} does not exist in this model; choose another --model")


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
