"""Merging methods: T task vectors to T task vectors whose sum is the merged one.

A new method is one decorated function in one of these modules or in an extension.
"""

from pipeline.merging import (
    elementwise,
    image_statistics,
    interference,
    learned_coefficients,
    modifiers,
    spectral,
    with_images,
)
from pipeline.merging.context import Context, Deltas, Stream
from pipeline.merging.driver import merge, merge_files, merge_sum, merge_vectors
from pipeline.merging.matrices import OnMatrices
from pipeline.merging.registry import merging, merging_with_images, modifier
from pipeline.merging.statistics import ImageStatistics, write_statistics
from pipeline.merging.steps import Step, check_mergings, check_steps, read_steps
from pipeline.merging.task_statistics import task_statistics
from pipeline.merging.with_images import MergedWithImages, TaskImages, merge_with_images

# Importing these modules registers their methods.
BUILT_IN = (elementwise, spectral, interference, image_statistics, modifiers, with_images, learned_coefficients)

__all__ = [
    "BUILT_IN",
    "Context",
    "Deltas",
    "ImageStatistics",
    "MergedWithImages",
    "OnMatrices",
    "Step",
    "Stream",
    "TaskImages",
    "check_mergings",
    "check_steps",
    "merge",
    "merge_files",
    "merge_sum",
    "merge_vectors",
    "merge_with_images",
    "merging",
    "merging_with_images",
    "modifier",
    "read_steps",
    "task_statistics",
    "write_statistics",
]
