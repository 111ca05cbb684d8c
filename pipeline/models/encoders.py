"""Build open_clip models, whole or only the image encoder, and load a definition's pre-trained weights."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from jaxtyping import Float, UInt8
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from pipeline.errors import UserError, one_line
from pipeline.io.arrays import fingerprint, read_arrays
from pipeline.models.registry import HubWeights, ModelDefinition
from pipeline.models.resampling import resize

ImageBatch = UInt8[Tensor, "n 3 height width"]

_VISUAL = "visual."


class _Architecture(BaseModel):
    """The part of an open_clip configuration that every CLIP has."""

    embed_dim: int
    vision_cfg: dict[str, Any]
    text_cfg: dict[str, Any]


def build_clip(definition: ModelDefinition) -> nn.Module:
    """Return the open_clip model of a definition, in eval mode, with random weights.

    Raises:
        UserError: open_clip has no such architecture, its table of weights contradicts the definition, or the encoder
            returns more than one embedding per image.
    """
    config = architecture_config(definition)
    if definition.pretrained is not None:
        _check_tag(definition, definition.pretrained, bool(config.get("quick_gelu", False)))
    if config.get("multimodal_cfg") or config["vision_cfg"].get("output_tokens"):
        raise UserError(
            f"model {definition.name}: its image encoder returns tokens besides an embedding; choose a CLIP"
        )
    root = logging.getLogger()
    root.addFilter(_is_not_about_random_weights)
    try:
        return open_clip.create_model(definition.architecture, pretrained=None).eval()
    finally:
        root.removeFilter(_is_not_about_random_weights)


def architecture_config(definition: ModelDefinition) -> dict[str, Any]:
    """Return open_clip's configuration of a definition's architecture.

    Raises:
        UserError: open_clip has none, or the project's configuration is not that of a CLIP.
    """
    own = definition.folder / f"{definition.architecture}.json"
    if own.is_file():
        _check_architecture(own)
        open_clip.add_model_config(own)
    config = open_clip.get_model_config(definition.architecture)
    if config is None:
        raise UserError(f"model {definition.name}: open_clip has no architecture {definition.architecture!r}")
    return config


def _check_architecture(path: Path) -> None:
    """Check a configuration of the project, because open_clip silently ignores one that lacks a key."""
    try:
        _Architecture.model_validate_json(path.read_bytes())
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"])) or "its content"
        raise UserError(f"{path}: {key}: {fault['msg']}; write it as open_clip's model_configs/*.json") from None


def _check_tag(definition: ModelDefinition, tag: str, quick_gelu: bool) -> None:
    """Check a definition against open_clip's table of weights: a wrong activation gives wrong numbers silently.

    Raises:
        UserError: naming the first difference.
    """
    name, architecture = definition.name, definition.architecture
    known = open_clip.get_pretrained_cfg(architecture, tag)
    if not known:
        legal = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"
        raise UserError(f"model {name}: open_clip has no weights {tag!r} of {architecture}; choose from {legal}")
    if bool(known.get("quick_gelu", False)) != quick_gelu:
        trained, builds = ("QuickGELU", "GELU") if known.get("quick_gelu") else ("GELU", "QuickGELU")
        raise UserError(
            f"model {name}: the weights {tag!r} were trained with {trained}, but architecture {architecture!r} has "
            f"{builds}; choose its architecture {'with' if trained == 'QuickGELU' else 'without'} -quickgelu"
        )
    repository = "/".join(known["hf_hub"].split("/")[:2])  # a file name may follow
    if isinstance(definition.weights, HubWeights) and definition.weights.repository != repository:
        raise UserError(f"model {name}: open_clip has the weights {tag!r} in {repository}; correct weights.repository")
    for key, given in (("mean", definition.mean), ("std", definition.std)):
        if tuple(known[key]) != given:
            raise UserError(f"model {name}: the weights {tag!r} need {key} {list(known[key])}, not {list(given)}")


def _is_not_about_random_weights(record: logging.LogRecord) -> bool:
    """Filter out open_clip's warning that weights are random: they are loaded right afterwards."""
    return not record.getMessage().startswith("No pretrained weights loaded")


def split_towers(state: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Split a CLIP state dict into the image encoder, without its ``visual.`` prefix, and the rest."""
    image = {name.removeprefix(_VISUAL): array for name, array in state.items() if name.startswith(_VISUAL)}
    text = {name: array for name, array in state.items() if not name.startswith(_VISUAL)}
    return image, text


def load_weights(model: nn.Module, arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Load every weight of a model.

    Raises:
        UserError: names or shapes differ, or a weight is NaN or infinite; ``where`` names the file in the message.
    """
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UserError(f"{where}: tensor {name!r} holds NaN or infinity; fetch or make the weights again")
    try:
        model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    except RuntimeError as error:
        raise UserError(f"{where}: does not fit the architecture: {one_line(error)}") from None


def load_image_encoder(definition: ModelDefinition, path: Path) -> "ImageEncoder":
    """Return the image encoder with the weights in ``path``, in eval mode.

    Raises:
        UserError: the file is missing, damaged, not finite, or of another architecture.
    """
    arrays, _ = read_arrays(path)
    visual = build_clip(definition).get_submodule("visual")
    load_weights(visual, arrays, str(path))
    return ImageEncoder(visual, definition, fingerprint(arrays))


def load_clip(definition: ModelDefinition, image: Path, text: Path) -> nn.Module:
    """Return the whole CLIP from two files, in eval mode.

    Raises:
        UserError: a file is missing, damaged, not finite, or of another architecture.
    """
    image_arrays, _ = read_arrays(image)
    text_arrays, _ = read_arrays(text)
    clip = build_clip(definition)
    load_weights(clip, {**{_VISUAL + n: a for n, a in image_arrays.items()}, **text_arrays}, f"{image}, {text}")
    return clip


class ImageEncoder(nn.Module):
    """An open_clip image encoder f(x; θ) of uint8 images; its embeddings are not L2-normalised.

    ``sha256`` is the fingerprint of the weights it was created with.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, visual: nn.Module, definition: ModelDefinition, sha256: str) -> None:
        super().__init__()
        self.visual = visual
        self.sha256 = sha256
        self.register_buffer("mean", torch.tensor(definition.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(definition.std).view(1, 3, 1, 1), persistent=False)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Return (height, width) of the images that the encoder expects, or ``None`` for any."""
        size = getattr(self.visual, "image_size", None)
        return (size, size) if isinstance(size, int) else size and (size[0], size[1])

    def forward(self, images: ImageBatch) -> Float[Tensor, "n features"]:
        """Embed images, resized to the size that the encoder expects."""
        return self.visual(self.normalise(images))

    def normalise(self, images: ImageBatch) -> Float[Tensor, "n 3 _ _"]:
        """Return the images resized and normalised as open_clip's encoder expects them."""
        return (self.fit(images).float() / 255 - self.mean) / self.std

    def fit(self, images: ImageBatch) -> UInt8[Tensor, "n 3 _ _"]:
        """Return the images resized to the size that the encoder expects."""
        if self.image_size and images.shape[-2:] != self.image_size:
            return resize(images, self.image_size)
        return images
