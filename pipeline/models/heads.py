"""Zero-shot heads: a task's frozen classifier, built by the text tower from prompt templates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.io.arrays import read_arrays, write_arrays
from pipeline.models.checkpoints import check_finite
from pipeline.models.registry import ModelDefinition


@dataclass(frozen=True)
class Head:
    """A linear classifier of normalised embeddings: logits are ``weight @ embedding / ‖embedding‖``.

    weight: ``[classes, features]``, with the logit scale multiplied in.
    classes: names of the classes, one per row.
    """

    weight: Float[Tensor, "classes features"]
    classes: list[str]

    def logits(self, embeddings: Float[Tensor, "n features"]) -> Float[Tensor, "n classes"]:
        """Return the logits of embeddings that are not L2-normalised."""
        return nn.functional.normalize(embeddings, dim=-1) @ self.weight.T

    def to(self, device: torch.device) -> "Head":
        """Return the same head on another device."""
        return Head(self.weight.to(device), self.classes)


def build_head(clip: nn.Module, definition: ModelDefinition, classes: Sequence[str], templates: Sequence[str]) -> Head:
    """Return a task's zero-shot head: per class the normalised mean of its encoded prompts, times exp(logit_scale).

    It is on the model's device.
    """
    scale = clip.get_parameter("logit_scale")
    columns = open_clip.build_zero_shot_classifier(clip, tokenizer(definition), classes, templates, device=scale.device)
    with torch.no_grad():
        weight = columns.T * scale.exp()
    return Head(weight.contiguous(), list(classes))


def tokenizer(definition: ModelDefinition) -> Callable[[list[str]], Tensor]:
    """Return the tokenizer of a model, with its own vocabulary if the definition names one."""
    if definition.vocabulary is None:
        return open_clip.get_tokenizer(definition.architecture)
    vocabulary = definition.folder / definition.vocabulary
    return open_clip.get_tokenizer(definition.architecture, bpe_path=str(vocabulary))


def write_head(path: Path, head: Head, metadata: dict[str, object]) -> None:
    """Write a head as one file.

    Raises:
        UserError: a weight is NaN or infinite.
    """
    check_finite({"weight": head.weight}, str(path), "check the text tower that it is made with")
    write_arrays(path, {"weight": head.weight.cpu().numpy()}, {**metadata, "classes": head.classes})


def read_head(path: Path) -> Head:
    """Read a head.

    Raises:
        UserError: the file is missing, damaged, not a head, or a weight is NaN or infinite.
    """
    arrays, metadata = read_arrays(path)
    classes = metadata.get("classes")
    if set(arrays) != {"weight"} or not isinstance(classes, list) or len(arrays["weight"]) != len(classes):
        raise UserError(f"{path}: not a head with one row per class; run `dvc repro` again")
    weight = torch.from_numpy(arrays["weight"])
    check_finite({"weight": weight}, str(path), "check the text tower that it was made with")
    return Head(weight, classes)
