"""Statistics of a task's unlabelled images, for the methods that weight task vectors by them.

Gram matrices: E[x xᵀ] of the inputs x of every linear layer, over images and tokens. Fisher diagonals: the mean of
(∂ log p(y|x))², labels y drawn from the model itself. Both are of the encoder as it was fine-tuned to the task.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.errors import UserError
from pipeline.io.arrays import write_arrays
from pipeline.io.tensor_files import TensorFile
from pipeline.models.encoders import ImageBatch

Kind = Literal["gram", "fisher"]
_VERSION = 2
# Batches of any sizes.
ImageBatches = Iterable[UInt8[Tensor, "_ 3 _ _"]]


@dataclass(frozen=True)
class ImageStatistics:
    """A statistic per parameter of an encoder.

    kind: ``gram``: ``[inputs, inputs]`` per weight of a linear layer; ``fisher``: the parameter's own shape.
    base_sha256: fingerprint of the θ₀ that the encoder was fine-tuned from.
    images: how many were seen.
    tensors: by parameter name.
    origin: the model, task, recipe and space of the task vector, its SHA-256, and the split and seed of the images.
    """

    kind: Kind
    base_sha256: str
    images: int
    tensors: Mapping[str, np.ndarray]
    origin: Mapping[str, Any] = field(default_factory=dict)
    sha256: str | None = None

    @classmethod
    def open(cls, path: Path) -> "ImageStatistics":
        """Open a file of :func:`write_statistics`, whose tensors are read when they are asked for.

        Raises:
            UserError: the file is missing, damaged, or holds something else.
        """
        file = TensorFile(path)
        entries = dict(file.metadata)
        if entries.pop("statistics_version", None) != _VERSION:
            raise UserError(f"{path}: does not hold statistics of images that this Tauflow reads; compute them again")
        return cls(**entries, tensors=file, sha256=file.sha256)

    def find(self, kind: str | None, name: str) -> Tensor | None:
        """Return a parameter's statistic, if there is one."""
        return torch.from_numpy(self.tensors[name]) if kind == self.kind and name in self.tensors else None


def write_statistics(path: Path, statistics: ImageStatistics) -> None:
    """Write statistics as one safetensors file."""
    entries: dict[str, Any] = {
        "statistics_version": _VERSION,
        "kind": statistics.kind,
        "base_sha256": statistics.base_sha256,
        "images": statistics.images,
        "origin": dict(statistics.origin),
    }
    write_arrays(path, statistics.tensors, entries)


@torch.no_grad()
def gram_matrices(
    encoder: nn.Module, batches: ImageBatches, base_sha256: str, names: Collection[str] | None = None
) -> ImageStatistics:
    """Return the Gram matrices of the inputs of all linear layers.

    Args:
        encoder: takes uint8 images; its parameters' names lose the prefix ``visual.``.
        batches: on the encoder's device.
        base_sha256: fingerprint of θ₀.
        names: the weights whose layers count; all if not given.

    Raises:
        UserError: no images are given.
    """
    named = ((name.removeprefix("visual."), p) for name, p in encoder.named_parameters() if p.ndim == 2)
    layers = {p.data_ptr(): (name, p) for name, p in named if names is None or name in names}
    watch = _LinearInputs(layers)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it would run attention as one operation that hides its layers
    images = 0
    try:
        with watch:
            for batch in batches:
                encoder(batch)
                images += len(batch)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    _require(images)
    tensors = {name: (total / watch.rows[name]).float().cpu().numpy() for name, total in watch.totals.items()}
    return ImageStatistics("gram", base_sha256, images, tensors)


class _LinearInputs(TorchDispatchMode):
    """Sum x xᵀ for every product of x with a transposed weight.

    Not hooks on modules: torch's attention multiplies by its weights without calling a module.
    """

    def __init__(self, layers: Mapping[int, tuple[str, nn.Parameter]]) -> None:
        super().__init__()
        self._layers = layers
        self.totals: dict[str, Float[Tensor, "inputs inputs"]] = {}
        self.rows: dict[str, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (torch.ops.aten.addmm.default, torch.ops.aten.mm.default):
            inputs, factor = args[-2:]
            name, weight = self._layers.get(factor.data_ptr(), ("", None))
            if weight is not None and factor.shape == weight.shape[::-1] and factor.stride() == weight.stride()[::-1]:
                gram = (inputs.T @ inputs).double()
                self.totals[name] = self.totals[name] + gram if name in self.totals else gram
                self.rows[name] = self.rows.get(name, 0) + len(inputs)
        return func(*args, **(kwargs or {}))


def fisher_diagonals(
    encoder: nn.Module,
    logits: Callable[[Float[Tensor, "n features"]], Float[Tensor, "n classes"]],
    batches: ImageBatches,
    base_sha256: str,
    seed: int = 0,
    embed: Callable[[ImageBatch], Float[Tensor, "n features"]] | None = None,
) -> ImageStatistics:
    """Return the diagonal of the Fisher information of every parameter that requires a gradient.

    Args:
        encoder, batches, base_sha256: as for :func:`gram_matrices`.
        logits: of embeddings, such as a head's.
        seed: of the labels, one per image, that are drawn from the model's own probabilities.
        embed: embeddings of the model whose Jacobian the encoder has, such as a linearised one; the encoder's own if
            not given.

    Raises:
        UserError: no images are given.
    """
    parameters = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
    totals = {name: torch.zeros_like(p) for name, p in parameters.items()}
    random = torch.Generator().manual_seed(seed)
    images = 0
    for image in (image for batch in batches for image in batch.split(1)):
        embedded = encoder(image)
        at = (embed(image) if embed else embedded).detach().requires_grad_()
        scores = logits(at).log_softmax(-1)
        label = torch.multinomial(scores.detach().exp().cpu(), 1, generator=random).to(scores.device)
        (slope,) = torch.autograd.grad(scores.gather(1, label).sum(), at)
        gradients = torch.autograd.grad(embedded, list(parameters.values()), slope, allow_unused=True)
        for total, gradient in zip(totals.values(), gradients, strict=True):
            if gradient is not None:
                total += gradient.square()
        images += 1
    _require(images)
    tensors = {name.removeprefix("visual."): (total / images).cpu().numpy() for name, total in totals.items()}
    return ImageStatistics("fisher", base_sha256, images, tensors)


def _require(images: int) -> None:
    if not images:
        raise UserError("statistics of images: no images; give at least one")
