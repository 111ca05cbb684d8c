"""Zero-shot heads: the frozen classifier of a task, made by the text tower from prompt templates."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.files import read_arrays, write_arrays
from pipeline.models.registry import DEFINITIONS, ModelDefinition
from pipeline.tasks import TaskCard


@dataclass(frozen=True)
class Head:
    """Logits are ``weight @ embedding / ‖embedding‖``; the logit scale is part of ``weight``.

    weight: ``[classes, features]``.
    classes: class names in the order of the rows.
    """

    weight: Float[Tensor, "classes features"]
    classes: list[str]

    def logits(self, embeddings: Float[Tensor, "n features"]) -> Float[Tensor, "n classes"]:
        """Logits of embeddings as they leave the encoder, before L2 normalisation."""
        return nn.functional.normalize(embeddings, dim=-1) @ self.weight.T

    def to(self, device: torch.device) -> "Head":
        """The same head on another device."""
        return Head(self.weight.to(device), self.classes)


def build_head(clip: nn.Module, definition: ModelDefinition, card: TaskCard) -> Head:
    """A task's zero-shot head: per class the normalised mean of its encoded prompts, times exp(logit_scale).

    It is made, and stays, where the model is.
    """
    scale = clip.get_parameter("logit_scale")
    columns = open_clip.build_zero_shot_classifier(
        clip, tokenizer(definition), card.classes, card.templates, device=scale.device
    )
    with torch.no_grad():
        weight = columns.T * scale.exp()
    return Head(weight.contiguous(), card.classes)


def tokenizer(definition: ModelDefinition) -> Callable[[list[str]], Tensor]:
    """The tokenizer of a model, with its own vocabulary if its definition names one."""
    if definition.vocabulary is None:
        return open_clip.get_tokenizer(definition.architecture)
    vocabulary = DEFINITIONS / definition.vocabulary
    return open_clip.get_tokenizer(definition.architecture, bpe_path=str(vocabulary))


def write_head(path: Path, head: Head, metadata: dict[str, object]) -> None:
    """Write a head as one file."""
    write_arrays(path, {"weight": head.weight.cpu().numpy()}, {**metadata, "classes": head.classes})


def read_head(path: Path) -> Head:
    """Read a head.

    Raises:
        UserError: the file is missing, damaged or no head.
    """
    arrays, metadata = read_arrays(path)
    if set(arrays) != {"weight"} or len(arrays["weight"]) != len(metadata.get("classes", [])):
        raise UserError(f"{path}: not a head with one row per class; run `dvc repro` again")
    if not np.isfinite(arrays["weight"]).all():
        raise UserError(f"{path}: has NaN or infinite weights; check the text encoder it was made with")
    return Head(torch.from_numpy(arrays["weight"]), metadata["classes"])
