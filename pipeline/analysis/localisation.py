"""Localisation of the NTK's eigenfunctions: do the leading ones live on the images of one task?

Ortiz-Jimenez et al. (arXiv 2305.12827, section 6): task vectors can be disentangled where eigenfunctions φ_ρ of the
kernel k(x, x') = J(x) J(x')ᵀ at θ₀ keep their energy on one task's images. Which outputs their kernel takes is not
published with their code. Ours is the pseudo-NTK (Mohamadi et al., arXiv 2206.12543), the kernel of one scalar,
s(x) = Σ_k f_k(x) / √d, with f the d outputs of the encoder before L2 normalisation: in expectation over random last
layers it is the trace of the whole NTK over d. It is not centred, so an eigenfunction that has one sign on all images
usually leads and is not localised.
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
from pipeline.files import fingerprint
from pipeline.models.encoders import ImageEncoder, build_clip
from pipeline.models.registry import ModelDefinition
from pipeline.tangent import plain_attention

# Images that are differentiated at once: their activations come on top of the Jacobian's rows.
_CHUNK = 16

# ∇θ s of some images by parameter name.
_Rows = dict[str, Float[Tensor, "_ ..."]]


def ntk_gram(
    encoder: ImageEncoder, images: UInt8[Tensor, "n 3 height width"], memory: int, device: torch.device
) -> Float[np.ndarray, "n n"]:
    """The kernel K of the images, K[i, j] = ⟨∇θ s(xᵢ), ∇θ s(xⱼ)⟩ over all parameters of the encoder at its weights.

    If the rows ∇θ s of all images do not fit in memory, those of blocks of images are made again for other blocks.

    Args:
        encoder: it is moved to the device and put in eval mode.
        images: of all tasks.
        memory: bytes that rows may take on the device.
        device: where the encoder runs.

    Returns:
        float64, exactly symmetric; positive semi-definite up to the rounding of the encoder's own type.

    Raises:
        UserError: memory does not hold the rows of two images (or of the only one).
    """
    encoder.to(device).eval()
    blocks = _blocks(row_bytes(encoder), len(images), memory)
    gram = np.zeros((len(images), len(images)))
    rows = _rows(encoder, images[blocks[0]].to(device))
    for index, block in enumerate(blocks):
        gram[block, block] = _products(rows, rows)
        others: _Rows = {}
        # The block that comes last here is the next one outside, and need not be made again.
        for other in reversed(blocks[index + 1 :]):
            others = {}  # frees one block before another is made
            others = _rows(encoder, images[other].to(device))
            gram[block, other] = _products(rows, others)
        rows = others
    return np.triu(gram) + np.triu(gram, 1).T


def row_bytes(encoder: ImageEncoder) -> int:
    """What ∇θ s of one image takes."""
    return sum(parameter.nbytes for parameter in encoder.visual.parameters())


def count_gradients(row: int, n: int, memory: int) -> int:
    """How many images :func:`ntk_gram` differentiates for a kernel of n: each again for every other block but one.

    Raises:
        UserError: memory does not hold the rows of two images (or of the only one).
    """
    sizes = [block.stop - block.start for block in _blocks(row, n, memory)]
    return sizes[0] + sum(index * size for index, size in enumerate(sizes))


def _blocks(row: int, n: int, memory: int) -> list[slice]:
    """All images at once if memory holds their rows, else so many that it holds two blocks."""
    fitting = memory // row
    size = n if fitting >= n else fitting // 2
    if size == 0:
        least = -(-min(n, 2) * row // 2**20)
        raise UserError(
            f"localisation.memory: a row of the Jacobian takes {row / 2**20:,.0f} MiB, "
            f"and the kernel of {n} images needs {min(n, 2)}; allow at least {least}"
        )
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _rows(encoder: ImageEncoder, images: UInt8[Tensor, "n 3 height width"]) -> _Rows:
    """∇θ s of every image."""
    parameters = {name: parameter.detach() for name, parameter in encoder.visual.named_parameters()}

    def output(theta: dict[str, Tensor], image: Float[Tensor, "3 height width"]) -> Float[Tensor, ""]:
        features = functional_call(encoder.visual, theta, (image[None],))
        return features.sum() / features.shape[1] ** 0.5

    with plain_attention():
        return vmap(grad(output), in_dims=(None, 0), chunk_size=_CHUNK)(parameters, encoder.normalise(images))


def _products(rows: _Rows, others: _Rows) -> Float[np.ndarray, "n m"]:
    """Inner products, summed over parameter tensors in float64."""
    products = ((row.flatten(1) @ others[name].flatten(1).T).double() for name, row in rows.items())
    return reduce(torch.add, products).cpu().numpy()


def random_encoder(definition: ModelDefinition, seed: int) -> ImageEncoder:
    """An encoder of the same architecture with open_clip's own initialisation, in eval mode, on the CPU.

    Nobody else's random numbers change.

    Raises:
        UserError: open_clip has no such architecture.
    """
    # torch.manual_seed would reach GPUs, too, and forking those warns where there are several.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        visual = build_clip(definition).get_submodule("visual")
    weights = {name: tensor.numpy() for name, tensor in visual.state_dict().items()}
    return ImageEncoder(visual, definition, fingerprint(weights))


@dataclass(frozen=True)
class Localisation:
    """Eigenfunctions of a kernel over the images of two tasks, the leading one first.

    eigenvalues: descending.
    own_energy: the share of each one's energy Σ φ_ρ(x)² on the first task, in [0, 1]; the rest is on the second.
    """

    eigenvalues: Float[np.ndarray, " eigenfunctions"]
    own_energy: Float[np.ndarray, " eigenfunctions"]

    def localisation(self, k: int) -> float:
        """Mean over the k leading ones of the larger of both shares: 0.5 (on both tasks alike) to 1 (on one task)."""
        leading = self.own_energy[:k]
        return float(np.maximum(leading, 1 - leading).mean())


def localise(gram: Float[np.ndarray, "n n"], first: Bool[np.ndarray, " n"]) -> Localisation:
    """Where the eigenfunctions of a kernel have their energy.

    Both tasks should have as many images: only then has one that is spread evenly half its energy on either.
    Those of a repeated eigenvalue are an arbitrary basis of their space, and their shares are as arbitrary.

    Args:
        gram: the kernel over the images of both tasks, symmetric, in float64.
        first: which images are the first task's.
    """
    eigenvalues, eigenvectors = scipy.linalg.eigh(gram)
    energy = np.square(eigenvectors[first]).sum(axis=0)
    return Localisation(eigenvalues[::-1], energy[::-1])


def pairwise_localisation(gram: Float[np.ndarray, "n n"], tasks: Sequence[str], k: int) -> pd.DataFrame:
    """The k leading eigenfunctions of every pair of tasks, each from the part of the kernel on the pair's images.

    Args:
        gram: the kernel over the images of all tasks; see :func:`localise`.
        tasks: of every image, its task.
        k: eigenfunctions per pair; all of them if a pair has fewer images.

    Returns:
        Columns ``first``, ``second`` (tasks in order of appearance), ``eigenfunction`` (0 leads), ``eigenvalue``,
        ``first_energy`` (share on the first task, in [0, 1]).
    """
    owners = np.asarray(tasks)
    rows = []
    for first, second in itertools.combinations(dict.fromkeys(tasks), 2):
        images = np.flatnonzero(np.isin(owners, [first, second]))
        found = localise(gram[np.ix_(images, images)], owners[images] == first)
        leading = zip(found.eigenvalues[:k].tolist(), found.own_energy[:k].tolist(), strict=True)
        rows += [(first, second, rank, value, energy) for rank, (value, energy) in enumerate(leading)]
    return pd.DataFrame(rows, columns=["first", "second", "eigenfunction", "eigenvalue", "first_energy"])
