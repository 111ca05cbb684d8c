"""Turn original images of any source into train, val and test as packed arrays. Imports neither torch nor open_clip."""

from pipeline.preparation.packing import Destination, prepare
from pipeline.preparation.raw import read_raw

__all__ = ["Destination", "prepare", "read_raw"]
