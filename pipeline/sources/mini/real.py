"""Photographed clothes and scanned digits: the two tasks of real pixels."""

from pathlib import Path

import numpy as np

from pipeline.images.images import LabelledImages
from pipeline.sources.mini import canvas
from pipeline.sources.mini.sources import read_arrays

FASHION_TRAIN = 2000
OPTDIGITS_TRAIN, OPTDIGITS_VAL = 797, 400


def _grey(images: np.ndarray, labels: np.ndarray) -> LabelledImages:
    return LabelledImages(np.repeat(images[:, None], 3, axis=1), labels.astype(np.int64))


def fashion(sources: Path) -> dict[str, LabelledImages]:
    """Return Fashion-MNIST, 28 × 28 with a black border: train and val from its train file, test from its test file."""
    keys = ("train_images", "train_labels", "test_images", "test_labels")
    images, labels, test_images, test_labels = read_arrays(sources / "fashion.npz", *keys)
    border = ((0, 0), (2, 2), (2, 2))
    train = _grey(np.pad(images, border), labels)
    order = np.arange(len(labels))
    return {
        "train": train.take(order[:FASHION_TRAIN]),
        "val": train.take(order[FASHION_TRAIN:]),
        "test": _grey(np.pad(test_images, border), test_labels),
    }


def optdigits(sources: Path) -> dict[str, LabelledImages]:
    """Return 8 × 8 digits enlarged to 28 × 28 with a black border, split in the source's order.

    The source is ordered by writer, so almost no writer of ``test`` is in ``train``.
    """
    images, labels = read_arrays(sources / "optdigits.npz", "images", "labels")
    large = canvas.enlarge(images[:, None].astype(np.float32) / 16, 28)
    everything = _grey(np.pad(canvas.to_bytes(large)[:, 0], ((0, 0), (2, 2), (2, 2))), labels)
    order = np.arange(len(labels))
    return {
        "train": everything.take(order[:OPTDIGITS_TRAIN]),
        "val": everything.take(order[OPTDIGITS_TRAIN : OPTDIGITS_TRAIN + OPTDIGITS_VAL]),
        "test": everything.take(order[OPTDIGITS_TRAIN + OPTDIGITS_VAL :]),
    }
