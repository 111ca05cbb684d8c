"""Labelled images as packed arrays, and splits of them as files. Imports neither torch nor open_clip."""

from pipeline.images.images import Images, LabelledImages, Labels
from pipeline.images.splits import SPLITS, Split, check_labels, read_split, read_unlabelled, write_split

__all__ = [
    "SPLITS",
    "Images",
    "LabelledImages",
    "Labels",
    "Split",
    "check_labels",
    "read_split",
    "read_unlabelled",
    "write_split",
]
