"""Translate CLIP's tensors between the names and layouts of Hugging Face's classes and of open_clip.

Both hold the same numbers: open_clip keeps query, key and value in one tensor and its projections transposed.
"""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from pipeline.errors import UserError

Names = Mapping[str, str]

# open_clip's names of modules and tensors, and Hugging Face's ("layrnorm" is their spelling).
_VISION = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "ln_pre": "pre_layrnorm",
    "ln_post": "post_layernorm",
}
_TEXT = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final": "final_layer_norm",
}
_LAYERS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_BLOCKS, _ENCODER = "transformer.resblocks", "encoder.layers"
_FUSED = ("q", "k", "v")
_ANCHOR = "embeddings.patch_embedding.weight"
_POSITIONS = "embeddings.position_ids"  # a buffer in older versions
_PROJECTION = "visual_projection.weight"
_VISION_MODEL = "vision_model."


def vision_models(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the prefix of every CLIP or vision model of Hugging Face, and of its vision tower below that."""
    towers = [name.removesuffix(_ANCHOR) for name in names if name.endswith(_ANCHOR)]
    roots = [tower.removesuffix(_VISION_MODEL) for tower in towers]
    return [(root, tower.removeprefix(root)) for root, tower in zip(roots, towers, strict=True)]


def is_of_vision_model(name: str, tower: str) -> bool:
    """Return whether a tensor of a model is part of its image encoder, whose vision tower has this prefix."""
    return name == _PROJECTION or (name.startswith(tower) and name != f"{tower}{_POSITIONS}")


def image_encoder(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return open_clip's image encoder of a CLIPModel, CLIPVisionModelWithProjection or CLIPVisionModel.

    The last has no projection, so ``proj`` is missing then.

    Raises:
        UserError: a tensor of the vision model is unknown, or one of query, key and value is missing.
    """
    ((_, tower),) = vision_models(tensors)
    roots, layers = _inverse(_VISION), _inverse(_LAYERS)
    translated: dict[str, Tensor] = {}
    fused: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if not is_of_vision_model(name, tower):
            continue
        inner = name.removeprefix(tower)
        separate = re.fullmatch(rf"{re.escape(_ENCODER)}\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", inner)
        if name == _PROJECTION:
            translated["proj"] = tensor.T
        elif separate:
            index, part, kind = separate.groups()
            fused.setdefault(f"{_BLOCKS}.{index}.attn.in_proj_{kind}", {})[part] = tensor
        else:
            translated[_renamed(inner, roots, layers, _ENCODER, _BLOCKS)] = tensor
    for name, parts in fused.items():
        if len(parts) < len(_FUSED) or len({part.shape[1:] for part in parts.values()}) > 1:
            raise UserError(f"{name}: query, key and value do not fit together; {', '.join(sorted(parts))} are there")
        translated[name] = torch.cat([parts[part] for part in _FUSED])
    return translated


def clip_model(image: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a CLIPModel from open_clip's two towers, whose names have no ``visual.``."""
    vision, projection = _tower(image, "proj", _VISION)
    language, text_projection = _tower(text, "text_projection", {**_TEXT, "logit_scale": "logit_scale"})
    scale = language.pop("logit_scale")
    return {
        **{f"vision_model.{name}": tensor for name, tensor in vision.items()},
        **{f"text_model.{name}": tensor for name, tensor in language.items()},
        _PROJECTION: projection.T.contiguous(),
        "text_projection.weight": text_projection.T.contiguous(),
        "logit_scale": scale,
    }


def _tower(tensors: Mapping[str, Tensor], projection: str, roots: Names) -> tuple[dict[str, Tensor], Tensor]:
    translated: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        fused = re.fullmatch(rf"{re.escape(_BLOCKS)}\.(\d+)\.attn\.in_proj_(weight|bias)", name)
        if fused:
            for part, piece in zip(_FUSED, tensor.chunk(len(_FUSED)), strict=True):
                translated[f"{_ENCODER}.{fused[1]}.self_attn.{part}_proj.{fused[2]}"] = piece.contiguous()
        elif name != projection:
            translated[_renamed(name, roots, _LAYERS, _BLOCKS, _ENCODER)] = tensor
    return translated, tensors[projection]


def _renamed(name: str, roots: Names, layers: Names, blocks: str, renamed_blocks: str) -> str:
    module, _, kind = name.rpartition(".")
    match = re.fullmatch(rf"{re.escape(blocks)}\.(\d+)\.(.+)", module)
    if match and match[2] in layers:
        return f"{renamed_blocks}.{match[1]}.{layers[match[2]]}.{kind}"
    if name in roots:
        return roots[name]
    if module in roots:
        return f"{roots[module]}.{kind}"
    raise UserError(f"tensor {name[:80]!r}: has no counterpart in the other library's CLIP")


def _inverse(names: Names) -> dict[str, str]:
    return {theirs: ours for ours, theirs in names.items()}
