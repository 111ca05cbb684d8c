"""Count images that occur in two splits, or two classes, of a task with equal pixels."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations

import numpy as np
from jaxtyping import Int64

from pipeline.images import Split
from pipeline.images.images import Images


class Digests:
    """The hashes of a split's images, taken while the images are packed."""

    def __init__(self) -> None:
        self.hashes: list[bytes] = []

    def passing(self, blocks: Iterable[Images]) -> Iterator[Images]:
        """Yield the same blocks."""
        for block in blocks:
            self.hashes.extend(hashlib.sha256(image).digest()[:16] for image in block)
            yield block


def count_duplicates(digests: Mapping[Split, Digests]) -> dict[str, int]:
    """Return how many images of one split are in another, for every pair of splits: ``{"test in train": 3, …}``."""
    return {
        f"{second} in {first}": sum(digest in seen for digest in digests[second].hashes)
        for first, second in combinations(digests, 2)
        for seen in [set(digests[first].hashes)]
    }


def count_two_labels(digests: Digests, labels: Int64[np.ndarray, " n"]) -> int:
    """Return how many images of a split equal one of another class in the same split."""
    classes: dict[bytes, set[int]] = {}
    for digest, label in zip(digests.hashes, labels.tolist(), strict=True):
        classes.setdefault(digest, set()).add(label)
    return sum(len(classes[digest]) > 1 for digest in digests.hashes)
