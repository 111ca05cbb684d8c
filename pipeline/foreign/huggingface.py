"""Names and layouts of CLIP's tensors in Hugging Face's classes, and in open_clip's.

They hold the same numbers: open_clip keeps query, key and value in one tensor and its projections transposed.
"""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from pipeline.errors import UserError

Names = Mapping[str, str]

# open_clip's names of modules and tensors, and Hugging Face's ("layrnorm" is theirs).
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
_POSITIONS = "embeddings.position_ids"  # a buffer of older versions
_PROJECTION = "visual_projection.weight"


def is_huggingface(names: Iterable[str]) -> bool:
    """Whether tensors are named as in Hugging Face's CLIP."""
    return any(name.endswith(_ANCHOR) for name in names)


def image_encoder(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's image encoder out of a CLIPModel, CLIPVisionModelWithProjection or CLIPVisionModel.

    The last has no projection, so that ``proj`` is missing then.

    Raises:
        UserError: a tensor of the vision model is unknown, or one of query, key and value is missing.
    """
    prefix = next(name for name in tensors if name.endswith(_ANCHOR)).removesuffix(_ANCHOR)
    roots, layers = _inverse(_VISION), _inverse(_LAYERS)
    found: dict[str, Tensor] = {}
    fused: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        inner = name.removeprefix(prefix)
        separate = re.fullmatch(rf"{re.escape(_ENCODER)}\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", inner)
        if name.endswith(_PROJECTION):
            found["proj"] = tensor.T
        elif not name.startswith(prefix) or inner == _POSITIONS:
            continue
        elif separate:
            index, part, kind = separate.groups()
            fused.setdefault(f"{_BLOCKS}.{index}.attn.in_proj_{kind}", {})[part] = tensor
        else:
            found[_renamed(inner, roots, layers, _ENCODER, _BLOCKS)] = tensor
    for name, parts in fused.items():
        if len(parts) < len(_FUSED):
            raise UserError(f"{name}: of query, key and value only {', '.join(sorted(parts))} is there")
        found[name] = torch.cat([parts[part] for part in _FUSED])
    return found


def clip_model(image: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a CLIPModel out of open_clip's two towers, whose names have no ``visual.``."""
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
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        fused = re.fullmatch(rf"{re.escape(_BLOCKS)}\.(\d+)\.attn\.in_proj_(weight|bias)", name)
        if fused:
            for part, piece in zip(_FUSED, tensor.chunk(len(_FUSED)), strict=True):
                found[f"{_ENCODER}.{fused[1]}.self_attn.{part}_proj.{fused[2]}"] = piece.contiguous()
        elif name != projection:
            found[_renamed(name, roots, _LAYERS, _BLOCKS, _ENCODER)] = tensor
    return found, tensors[projection]


def _renamed(name: str, roots: Names, layers: Names, blocks: str, renamed_blocks: str) -> str:
    module, _, kind = name.rpartition(".")
    match = re.fullmatch(rf"{re.escape(blocks)}\.(\d+)\.(.+)", module)
    if match and match[2] in layers:
        return f"{renamed_blocks}.{match[1]}.{layers[match[2]]}.{kind}"
    if name in roots:
        return roots[name]
    if module in roots:
        return f"{roots[module]}.{kind}"
    raise UserError(f"tensor {name!r}: the other library's CLIP has no counterpart")


def _inverse(names: Names) -> dict[str, str]:
    return {theirs: ours for ours, theirs in names.items()}
