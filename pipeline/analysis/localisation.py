"""Localisation of the NTK's eigenfunctions: the share of the leading ones' energy on the images of one task.

Ortiz-Jimenez et al. (arXiv 2305.12827, section 6): task vectors can be disentangled if eigenfunctions φ_ρ of the
kernel k(x, x') = J(x) J(x')ᵀ at θ₀ have their energy on one task's images. Their code does not include the kernel, so
its outputs are not known. Ours is the pseudo-NTK (Mohamadi et al., arXiv 2206.12543), the kernel of one scalar,
s(x) = Σ_k f_k(x) / √d, with f the d outputs of the encoder before L2 normalisation: in expectation over random last
layers it is the trace of the whole NTK divided by d. It is not centred, so the leading eigenfunction usually has one
sign on all images and is not localised.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pandas as pd
import scipy.linalg
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.func import functional_call, grad, vmap

from pipeline.errors import UserError
from pipeline.io.arrays import fingerprint
from pipeline.models.encoders import ImageEncoder, build_clip
from pipeline.models.registry import ModelDefinition
from pipeline.tangent import plain_attention

# Images differentiated at once; their activations need memory besides the Jacobian's rows.
_CHUNK = 16

# ∇θ s of several images by parameter name.
_Rows = dict[str, Float[Tensor, "_ ..."]]


def ntk_gram(
    encoder: ImageEncoder, images: UInt8[Tensor, "n 3 height width"], memory: int, device: torch.device
) -> Float[np.ndarray, "n n"]:
    """Return the kernel of the images, K[i, j] = ⟨∇θ s(xᵢ), ∇θ s(xⱼ)⟩ over all parameters of the encoder.

    If the rows ∇θ s of all images do not fit in memory, the rows of blocks of images are recomputed for other blocks.

    Args:
        encoder: the encoder; it is moved to the device and put in eval mode.
        images: the images of all tasks.
        memory: bytes available on the device for rows.
        device: where the encoder runs.

    Returns:
        float64, exactly symmetric; positive semi-definite up to the rounding of the encoder's type.

    Raises:
        UserError: the rows of two images (or of the only one) do not fit in memory.
    """
    encoder.to(device).eval()
    blocks = _blocks(row_bytes(encoder), len(images), memory)
    gram = np.zeros((len(images), len(images)))
    rows = _rows(encoder, images[blocks[0]].to(device))
    for index, block in enumerate(blocks):
        gram[block, block] = _products(rows, rows)
        others: _Rows = {}
        # The last block of this loop is the next one of the outer loop, so it is not recomputed.
        for other in reversed(blocks[index + 1 :]):
            others = {}  # frees one block before the next is computed
            others = _rows(encoder, images[other].to(device))
            gram[block, other] = _products(rows, others)
        rows = others
    return np.triu(gram) + np.triu(gram, 1).T


def row_bytes(encoder: ImageEncoder) -> int:
    """Return the bytes of ∇θ s of one image."""
    return sum(parameter.nbytes for parameter in encoder.visual.parameters())


def count_gradients(row: int, n: int, memory: int) -> int:
    """Return how many images :func:`ntk_gram` differentiates for a kernel of n images, recomputations included.

    Raises:
        UserError: the rows of two images (or of the only one) do not fit in memory.
    """
    sizes = [block.stop - block.start for block in _blocks(row, n, memory)]
    return sizes[0] + sum(index * size for index, size in enumerate(sizes))


def _blocks(row: int, n: int, memory: int) -> list[slice]:
    """Return one block of all images if memory holds their rows, otherwise blocks of which memory holds two."""
    fitting = memory // row
    size = n if fitting >= n else fitting // 2
    if size == 0:
        least = -(-min(n, 2) * row // 2**20)
        raise UserError(
            f"localisation.memory: a row of the Jacobian takes {row / 2**20:,.0f} MiB, "
            f"and the kernel of {n} images needs {min(n, 2)}; set it to at least {least}"
        )
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _rows(encoder: ImageEncoder, images: UInt8[Tensor, "n 3 height width"]) -> _Rows:
    """Return ∇θ s of every image."""
    parameters = {name: parameter.detach() for name, parameter in encoder.visual.named_parameters()}

    def output(theta: dict[str, Tensor], image: Float[Tensor, "3 height width"]) -> Float[Tensor, ""]:
        features = functional_call(encoder.visual, theta, (image[None],))
        return features.sum() / features.shape[1] ** 0.5

    with plain_attention():
        return vmap(grad(output), in_dims=(None, 0), chunk_size=_CHUNK)(parameters, encoder.normalise(images))


def _products(rows: _Rows, others: _Rows) -> Float[np.ndarray, "n m"]:
    """Return the inner products, summed over parameter tensors in float64."""
    products = ((row.flatten(1) @ others[name].flatten(1).T).double() for name, row in rows.items())
    return reduce(torch.add, products).cpu().numpy()


def random_encoder(definition: ModelDefinition, seed: int) -> ImageEncoder:
    """Return an encoder of the same architecture with open_clip's initialisation, on the CPU.

    The state of the global random number generator does not change.

    Raises:
        UserError: open_clip has no such architecture.
    """
    # torch.manual_seed would also seed GPUs, and forking their generators warns if there are several.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        visual = build_clip(definition).get_submodule("visual")
    weights = {name: tensor.numpy() for name, tensor in visual.state_dict().items()}
    return ImageEncoder(visual, definition, fingerprint(weights))


@dataclass(frozen=True)
class Localisation:
    """Eigenfunctions of a kernel over the images of two tasks, the leading one first.

    eigenvalues: descending.
    own_energy: share of the energy Σ φ_ρ(x)² of each eigenfunction on the first task, in [0, 1]; the rest is on the
        second.
    """

    eigenvalues: Float[np.ndarray, " eigenfunctions"]
    own_energy: Float[np.ndarray, " eigenfunctions"]

    def localisation(self, k: int) -> float:
        """Return the mean over the k leading ones of the larger share: from 0.5 (on both tasks) to 1 (on one task)."""
        leading = self.own_energy[:k]
        return float(np.maximum(leading, 1 - leading).mean())


def localise(gram: Float[np.ndarray, "n n"], first: Bool[np.ndarray, " n"]) -> Localisation:
    """Return the share of each eigenfunction's energy on either task.

    Both tasks should have equally many images, so that an evenly spread eigenfunction has half its energy on each.
    Eigenfunctions of a repeated eigenvalue are an arbitrary basis, and so are their shares.

    Args:
        gram: the kernel over the images of both tasks, symmetric, in float64.
        first: which images are the first task's.
    """
    eigenvalues, eigenvectors = scipy.linalg.eigh(gram)
    energy = np.square(eigenvectors[first]).sum(axis=0)
    return Localisation(eigenvalues[::-1], energy[::-1])


def pairwise_localisation(gram: Float[np.ndarray, "n n"], tasks: Sequence[str], k: int) -> pd.DataFrame:
    """Return the k leading eigenfunctions of every pair of tasks, from the part of the kernel on the pair's images.

    Args:
        gram: the kernel over the images of all tasks; see :func:`localise`.
        tasks: the task of every image.
        k: eigenfunctions per pair; all of them if a pair has fewer images.

    Returns:
        Columns ``first``, ``second`` (tasks in order of appearance), ``eigenfunction`` (0 leads), ``eigenvalue``,
        ``first_energy`` (share on the first task, in [0, 1]).
    """
    owners = np.asarray(tasks)
    rows = []
    for first, second in itertools.combinations(dict.fromkeys(tasks), 2):
        images = np.flatnonzero(np.isin(owners, [first, second]))
        localisation = localise(gram[np.ix_(images, images)], owners[images] == first)
        leading = zip(localisation.eigenvalues[:k].tolist(), localisation.own_energy[:k].tolist(), strict=True)
        rows += [(first, second, rank, value, energy) for rank, (value, energy) in enumerate(leading)]
    return pd.DataFrame(rows, columns=["first", "second", "eigenfunction", "eigenvalue", "first_energy"])
