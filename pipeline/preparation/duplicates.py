"""Images that stand in two splits of a task, to the pixel."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations

from pipeline.tasks import Split
from pipeline.tasks.images import Images


class Digests:
    """A hash of every image of a split, taken as the images go by."""

    def __init__(self) -> None:
        self.found: list[bytes] = []

    def passing(self, blocks: Iterable[Images]) -> Iterator[Images]:
        """The same blocks."""
        for block in blocks:
            self.found.extend(hashlib.sha256(image).digest()[:16] for image in block)
            yield block


def count_duplicates(digests: Mapping[Split, Digests]) -> dict[str, int]:
    """For every pair of splits, how many images of the second stand in the first: ``{"test in train": 3, …}``."""
    return {
        f"{second} in {first}": sum(digest in seen for digest in digests[second].found)
        for first, second in combinations(digests, 2)
        for seen in [set(digests[first].found)]
    }
