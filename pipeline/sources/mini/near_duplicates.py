"""Perceptual hashes, to find drawings that were recoloured, resized or slightly edited.

The hash is the usual one for this purpose: the signs of the low-frequency part of a discrete cosine transform against
their median, here for each colour channel, so that flags that differ only in colour remain distinct.
"""

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

FREQUENCIES = 8
BITS = 3 * FREQUENCIES * FREQUENCIES
THRESHOLD = 24
"""Pictures whose hashes differ in at most this many of the 192 bits count as near-duplicates."""


def _cosines(size: int) -> Float32[np.ndarray, "frequencies size"]:
    positions = (np.arange(size) + 0.5) / size
    return np.cos(np.pi * np.arange(1, FREQUENCIES + 1)[:, None] * positions).astype(np.float32)


def perceptual_hash(images: UInt8[np.ndarray, "n 3 size size"]) -> Bool[np.ndarray, "n 192"]:
    """Return 192 bits per image: 8 × 8 cosine frequencies, without the constant one, of three channels."""
    basis = _cosines(images.shape[-1])
    spectrum = basis @ images.astype(np.float32) @ basis.T
    blocks = spectrum.reshape(len(images), 3, FREQUENCIES * FREQUENCIES)
    return (blocks > np.median(blocks, axis=2, keepdims=True)).reshape(len(images), BITS)


def distances(a: Bool[np.ndarray, "n 192"], b: Bool[np.ndarray, "m 192"]) -> Int64[np.ndarray, "n m"]:
    """Return the number of differing bits of every pair."""
    x, y = a.astype(np.float32), b.astype(np.float32)
    return np.rint(x.sum(1)[:, None] + y.sum(1)[None, :] - 2.0 * (x @ y.T)).astype(np.int64)


def first_of_each(images: UInt8[np.ndarray, "n 3 size size"]) -> Int64[np.ndarray, " kept"]:
    """Return the positions of images that are not near-duplicates of an image kept before them."""
    hashes = perceptual_hash(images)
    kept: list[int] = []
    for position in range(len(images)):
        if not kept or distances(hashes[position : position + 1], hashes[kept]).min() > THRESHOLD:
            kept.append(position)
    return np.array(kept, dtype=np.int64)
