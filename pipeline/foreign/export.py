"""Write a CLIP with an edited image encoder as a folder that open_clip or Hugging Face's classes can load."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import open_clip
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file
from torch import Tensor

from pipeline.foreign import huggingface
from pipeline.foreign.huggingface_config import clip_config, image_processor_config
from pipeline.io.files import atomic_write, write_json, write_text
from pipeline.models.checkpoints import check_finite
from pipeline.models.encoders import architecture_config
from pipeline.models.heads import tokenizer
from pipeline.models.registry import ModelDefinition

Format = Literal["open_clip", "huggingface"]

OPEN_CLIP_WEIGHTS = "open_clip_model.safetensors"
HUGGINGFACE_WEIGHTS = "model.safetensors"

# The tokens that begin and end a text: open_clip's names, and Hugging Face's.
_SPECIAL = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}


def write_clip(
    directory: Path, form: Format, definition: ModelDefinition, image: Mapping[str, Tensor], text: Mapping[str, Tensor]
) -> None:
    """Write weights in float32, and all configuration needed to load them, into an existing folder.

    Args:
        directory: the folder.
        form: the library that will load it.
        definition: the model.
        image: the image encoder's tensors, without the prefix ``visual.``.
        text: all other tensors of the CLIP.

    Raises:
        UserError: a weight is NaN or infinite, or Hugging Face's CLIP cannot express the architecture.
    """
    image, text = _single(image), _single(text)
    for tower, tensors in (("image encoder", image), ("text tower", text)):
        check_finite(tensors, f"{tower} of {definition.name}", "it is not exported")
    write = {"open_clip": _write_open_clip, "huggingface": _write_huggingface}[form]
    write(directory, definition, image, text)


def _single(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: tensor.float().contiguous() if tensor.is_floating_point() else tensor for n, tensor in tensors.items()}


def _write_open_clip(
    directory: Path, definition: ModelDefinition, image: Mapping[str, Tensor], text: Mapping[str, Tensor]
) -> None:
    tag = open_clip.get_pretrained_cfg(definition.architecture, definition.pretrained or "")
    images = {key: tag[key] for key in ("interpolation", "resize_mode") if key in tag}
    config = {
        "model_cfg": architecture_config(definition),
        "preprocess_cfg": {"mean": list(definition.mean), "std": list(definition.std), **images},
    }
    write_json(directory / "open_clip_config.json", config)
    weights = {**{f"visual.{name}": tensor for name, tensor in image.items()}, **text}
    _write_weights(directory / OPEN_CLIP_WEIGHTS, weights)


def _write_huggingface(
    directory: Path, definition: ModelDefinition, image: Mapping[str, Tensor], text: Mapping[str, Tensor]
) -> None:
    architecture = architecture_config(definition)
    config = clip_config(definition, architecture)
    write_json(directory / "config.json", config)
    size = architecture["vision_cfg"]["image_size"]
    write_json(directory / "preprocessor_config.json", image_processor_config(definition, size))
    _write_weights(directory / HUGGINGFACE_WEIGHTS, huggingface.clip_model(image, text))
    words = tokenizer(definition)
    if isinstance(words, SimpleTokenizer):
        _write_tokenizer(directory, words, architecture["text_cfg"]["context_length"])


def _write_weights(path: Path, tensors: dict[str, Tensor]) -> None:
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, {"format": "pt"})  # Hugging Face's loader requires this entry


def _write_tokenizer(directory: Path, words: SimpleTokenizer, length: int) -> None:
    """Write vocabulary and merges of a CLIPTokenizer.

    It pads with the end-of-text token, open_clip with zeros. The embeddings are the same: no token attends to those
    after the end of a text.
    """
    vocabulary = {_SPECIAL.get(token, token): index for token, index in words.encoder.items()}
    begin, end = _SPECIAL.values()
    settings: dict[str, Any] = {"tokenizer_class": "CLIPTokenizer", "model_max_length": length}
    settings |= {"bos_token": begin, "eos_token": end, "unk_token": end, "pad_token": end}
    write_json(directory / "tokenizer_config.json", settings)
    write_text(directory / "vocab.json", json.dumps(vocabulary, ensure_ascii=False))
    merges = sorted(words.bpe_ranks, key=lambda pair: words.bpe_ranks[pair])
    write_text(directory / "merges.txt", "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n")
