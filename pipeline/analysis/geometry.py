"""Geometry of task vectors: their angles with each other, and how orthogonal their updates are to data.

Of a linear layer y = W x, task t's update ΔW leaves task s where it is if the layer's inputs on s are orthogonal to the
row space of ΔW (Jin et al., arXiv 2407.07089). How far that holds is the response

    r(t, s) = sqrt( tr(ΔW A ΔWᵀ) / (‖ΔW‖²_F tr A) ),    A = mean of x xᵀ over tokens and images of s at θ₀,

which is ‖ΔW x‖ relative to ‖ΔW‖_F ‖x‖, both in root mean square. It lies in [0, 1], whatever the lengths of ΔW and x: 0
exactly if all inputs are orthogonal to all rows of ΔW, 1 if inputs and rows all lie on one line. An update drawn
uniformly from the sphere has 1/√width in root mean square, with the width of the inputs.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.editing import TaskVector, sum_vectors
from pipeline.models.encoders import ImageEncoder

# Mean of x xᵀ, square; the axes have no name because layers differ in width.
Moment = Float[Tensor, "_ _"]
# Takes the name of a weight and its inputs.
_Record = Callable[[str, Tensor], None]


def cosine_matrix(vectors: Sequence[TaskVector]) -> Float[np.ndarray, "tasks tasks"]:
    """Cosine similarities of flattened task vectors, in [−1, 1]: exactly symmetric, with exact ones on the diagonal.

    The row and column of a zero vector are 0, its place on the diagonal too. Products are in float64, where the vectors
    are, of one parameter's tensors at a time.

    Raises:
        UserError: the vectors start from different θ₀.
    """
    products = np.zeros((len(vectors), len(vectors)))
    for name, tensor in sum_vectors(vectors).tensors.items():
        rows = torch.stack([vector.tensors.get(name, torch.zeros_like(tensor)) for vector in vectors])
        rows = rows.reshape(len(vectors), -1).double()  # a parameter may be a scalar
        products += (rows @ rows.T).cpu().numpy()
    norms = np.sqrt(products.diagonal())
    lengths = np.outer(norms, norms)
    cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0).clip(-1, 1)
    np.fill_diagonal(cosines, norms > 0)
    return np.triu(cosines) + np.triu(cosines, 1).T


def input_moments(
    encoder: ImageEncoder, images: UInt8[Tensor, "n 3 height width"], batch_size: int, device: torch.device
) -> dict[str, Moment]:
    """A, the mean of x xᵀ over all tokens of all images, of every linear layer of the encoder at its weights.

    Those are the ``nn.Linear`` layers and the fused projections of self-attention; q, k and v share their inputs.
    Left out are the patch convolution, the final projection, and attention between different sequences or under a mask.

    Args:
        encoder: at θ₀; it is moved to the device and put in eval mode.
        images: of one task.
        batch_size: images per forward pass; there is one pass per batch for all layers.
        device: where the encoder runs and the moments stay.

    Returns:
        float64 ``[width, width]`` by the name of the weight, as task vectors have it.
    """
    totals: dict[str, Tensor] = {}
    rows: Counter[str] = Counter()

    def add(name: str, inputs: Tensor) -> None:
        x = inputs.flatten(0, -2).double()
        if name not in totals:
            totals[name] = x.new_zeros(x.shape[1], x.shape[1])
        totals[name].addmm_(x.T, x)
        rows[name] += len(x)

    with _hooked(encoder.to(device).eval().visual, add), torch.no_grad():
        for batch in images.split(batch_size):
            encoder(batch.to(device, non_blocking=True))
    return {name: total.div_(rows[name]) for name, total in totals.items()}


def responses(vectors: Sequence[TaskVector], moments: Mapping[str, Moment]) -> dict[str, Float[np.ndarray, " vectors"]]:
    """The response r of every linear layer to every vector's update, on the images that gave the moments.

    Layers that no vector holds are left out. Where one vector does not move a layer, or where all inputs are zero, the
    response is 0: the outputs stay.

    Returns:
        float64 ``[vectors]`` in [0, 1] by the name of the weight.
    """
    return {
        name: np.array([_response(vector.tensors.get(name), moment) for vector in vectors])
        for name, moment in moments.items()
        if any(name in vector.tensors for vector in vectors)
    }


def orthogonality_frame(
    vectors: Mapping[str, TaskVector], moments: Iterable[tuple[str, Mapping[str, Moment]]]
) -> pd.DataFrame:
    """All responses as a tidy table.

    Args:
        vectors: task vectors by task, on the moments' device.
        moments: task and :func:`input_moments` of its images; those of one task fill hundreds of MB for ViT-B/32, so a
            generator that computes them one task after the other is welcome.

    Returns:
        Columns ``layer`` (name of the weight), ``vector`` (task of τ), ``data`` (task of the images), ``response``.
    """
    rows = [
        (layer, vector, data, response)
        for data, of_data in moments
        for layer, found in responses(list(vectors.values()), of_data).items()
        for vector, response in zip(vectors, found, strict=True)
    ]
    return pd.DataFrame(rows, columns=["layer", "vector", "data", "response"])


def _response(update: Tensor | None, moment: Moment) -> float:
    if update is None:
        return 0.0
    update = update.to(moment.dtype)
    moved = torch.sum(update @ moment * update)
    largest = update.square().sum() * moment.trace()
    # Rounding can leave a little less than nothing.
    return 0.0 if largest == 0 else float((moved / largest).clamp(0, 1).sqrt())


@contextmanager
def _hooked(visual: nn.Module, record: _Record) -> Iterator[None]:
    """Show ``record`` the inputs of linear layers while the block runs."""
    with ExitStack() as hooks:
        for name, module in visual.named_modules():
            if isinstance(module, nn.MultiheadAttention):
                hook = _attention_hook(name, record)
                hooks.enter_context(module.register_forward_pre_hook(hook, with_kwargs=True))
            elif isinstance(module, nn.Linear):
                hooks.enter_context(module.register_forward_pre_hook(_linear_hook(name, record)))
        yield


def _linear_hook(name: str, record: _Record) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        record(f"{name}.weight", inputs[0])

    return hook


def _attention_hook(
    name: str, record: _Record
) -> Callable[[nn.MultiheadAttention, tuple[Tensor, ...], dict[str, Any]], None]:
    def hook(attention: nn.MultiheadAttention, inputs: tuple[Tensor, ...], options: dict[str, Any]) -> None:
        query, key, value = inputs
        if query is key and key is value and attention.batch_first and options.get("attn_mask") is None:
            record(f"{name}.in_proj_weight", query)
            record(f"{name}.out_proj.weight", _heads(attention, query))

    return hook


def _heads(attention: nn.MultiheadAttention, x: Float[Tensor, "n tokens width"]) -> Float[Tensor, "n tokens width"]:
    """The concatenated heads of self-attention.

    They are computed a second time, because ``nn.MultiheadAttention`` reads its output projection's weight without
    calling that layer, so that no hook sees them.
    """
    projected = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = projected.unflatten(-1, (3, attention.num_heads, -1)).movedim(-3, 0).transpose(-3, -2)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
