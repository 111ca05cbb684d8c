"""Geometry of task vectors: their angles with each other, and how orthogonal their updates are to data.

In a linear layer y = W x, task t's update ΔW does not change the outputs on task s if the layer's inputs on s are
orthogonal to the row space of ΔW (Jin et al., arXiv 2407.07089). The response measures how far that holds:

    r(t, s) = sqrt( tr(ΔW A ΔWᵀ) / (‖ΔW‖²_F tr A) ),    A = mean of x xᵀ over tokens and images of s at θ₀,

which is ‖ΔW x‖ relative to ‖ΔW‖_F ‖x‖, both in root mean square. It lies in [0, 1] for any lengths of ΔW and x: 0
exactly if all inputs are orthogonal to all rows of ΔW, 1 if all inputs and rows lie on one line. An update drawn
uniformly from the sphere has a response of 1/√width in root mean square, where width is that of the inputs.
"""

import itertools
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

from pipeline.editing import TaskVector
from pipeline.models.encoders import ImageEncoder

# Mean of x xᵀ, square; its axes are unnamed because layers differ in width.
Moment = Float[Tensor, "_ _"]
# Called with the name of a weight and its inputs.
_OnInputs = Callable[[str, Tensor], None]


def cosine_matrix(vectors: Sequence[TaskVector]) -> Float[np.ndarray, "tasks tasks"]:
    """Return the cosine similarities of flattened task vectors, in [−1, 1].

    The matrix is exactly symmetric, with exact ones on the diagonal; the row and column of a zero vector are 0.
    Products are in float64, on the vectors' device, one parameter at a time.

    Raises:
        UserError: the vectors start from different θ₀.
    """
    for first, second in itertools.combinations(vectors, 2):
        first.check_combines(second)
    products = np.zeros((len(vectors), len(vectors)))
    parameters = {name: tensor for vector in vectors for name, tensor in vector.tensors.items()}
    for name, tensor in parameters.items():
        rows = torch.stack([vector.tensors.get(name, torch.zeros_like(tensor)) for vector in vectors])
        rows = rows.reshape(len(vectors), -1).double()  # a parameter may be a scalar
        products += (rows @ rows.T).cpu().numpy()
    norms = np.sqrt(products.diagonal())
    lengths = np.outer(norms, norms)
    cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0).clip(-1, 1)
    np.fill_diagonal(cosines, norms > 0)
    return np.triu(cosines) + np.triu(cosines, 1).T


def input_moments(
    encoder: ImageEncoder, batches: Iterable[UInt8[Tensor, "_ 3 height width"]], device: torch.device
) -> dict[str, Moment]:
    """Return A, the mean of x xᵀ over all tokens of all images, for every linear layer of the encoder.

    These are the ``nn.Linear`` layers and the fused projections of self-attention; q, k and v share their inputs. The
    patch convolution, the final projection, cross-attention and masked attention are left out.

    Args:
        encoder: at θ₀; it is moved to the device and put in eval mode.
        batches: images of one task; each batch takes one forward pass.
        device: where the encoder runs and the moments stay.

    Returns:
        float64 ``[width, width]`` by the name of the weight, as in task vectors.
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
        for batch in batches:
            encoder(batch.to(device, non_blocking=True))
    return {name: total.div_(rows[name]) for name, total in totals.items()}


def responses(vectors: Sequence[TaskVector], moments: Mapping[str, Moment]) -> dict[str, Float[np.ndarray, " vectors"]]:
    """Return the response r of every linear layer to every vector's update, on the images that gave the moments.

    Layers that no vector moves are omitted. If a vector does not move a layer, or if all inputs are zero, the response
    is 0, because the outputs do not change.

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
    """Return all responses as a tidy table.

    Args:
        vectors: task vectors by task, on the moments' device.
        moments: each task with the :func:`input_moments` of its images. One task's moments take hundreds of MB for
            ViT-B/32, so pass a generator that computes them one task at a time.

    Returns:
        Columns ``layer`` (name of the weight), ``vector`` (task of τ), ``data`` (task of the images), ``response``.
    """
    rows = [
        (layer, vector, data, response)
        for data, moments_of_data in moments
        for layer, layer_responses in responses(list(vectors.values()), moments_of_data).items()
        for vector, response in zip(vectors, layer_responses, strict=True)
    ]
    return pd.DataFrame(rows, columns=["layer", "vector", "data", "response"])


def _response(update: Tensor | None, moment: Moment) -> float:
    if update is None:
        return 0.0
    update = update.to(moment.dtype)
    moved = torch.sum(update @ moment * update)
    largest = update.square().sum() * moment.trace()
    # Rounding may give a small negative number.
    return 0.0 if largest == 0 else float((moved / largest).clamp(0, 1).sqrt())


@contextmanager
def _hooked(visual: nn.Module, on_inputs: _OnInputs) -> Iterator[None]:
    """Call ``on_inputs`` with the inputs of linear layers while the block runs."""
    with ExitStack() as hooks:
        for name, module in visual.named_modules():
            if isinstance(module, nn.MultiheadAttention):
                hook = _attention_hook(name, on_inputs)
                hooks.enter_context(module.register_forward_pre_hook(hook, with_kwargs=True))
            elif isinstance(module, nn.Linear):
                hooks.enter_context(module.register_forward_pre_hook(_linear_hook(name, on_inputs)))
        yield


def _linear_hook(name: str, on_inputs: _OnInputs) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        on_inputs(f"{name}.weight", inputs[0])

    return hook


def _attention_hook(
    name: str, on_inputs: _OnInputs
) -> Callable[[nn.MultiheadAttention, tuple[Tensor, ...], dict[str, Any]], None]:
    def hook(attention: nn.MultiheadAttention, inputs: tuple[Tensor, ...], options: dict[str, Any]) -> None:
        query, key, value = inputs
        if query is key and key is value and attention.batch_first and options.get("attn_mask") is None:
            on_inputs(f"{name}.in_proj_weight", query)
            on_inputs(f"{name}.out_proj.weight", _heads(attention, query))

    return hook


def _heads(attention: nn.MultiheadAttention, x: Float[Tensor, "n tokens width"]) -> Float[Tensor, "n tokens width"]:
    """Return the concatenated heads of self-attention.

    They are computed a second time, because ``nn.MultiheadAttention`` uses its output projection's weight without
    calling that layer, so hooks do not see its inputs.
    """
    projected = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = projected.unflatten(-1, (3, attention.num_heads, -1)).movedim(-3, 0).transpose(-3, -2)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
