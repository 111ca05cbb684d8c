"""Tangent features as files: f₀(x) and J(x) τₜ of every image of a split, computed once for all stages that edit.

In tangent space an edit is affine: its embedding is f₀ + Σ aₜ J τₜ. The coefficient search, subsets of tasks and all
heatmaps are therefore matrix products of tangent features.
"""

import math
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from pipeline.editing.spaces import TangentSpace
from pipeline.errors import UserError
from pipeline.io.arrays import map_arrays, write_streamed
from pipeline.io.progress import progress

TangentFeatures = Float32[np.ndarray, "n parts features"]


_NAME = "features"


def write_features(
    path: Path, space: TangentSpace, images: UInt8[np.ndarray, "n 3 height width"], metadata: Mapping[str, Any]
) -> None:
    """Compute and write the features of a split, ``[n, 1 + tasks, features]``, as float32, and whose they are.

    Only one batch of the space is in memory at a time.
    """
    batches, count = space.features(torch.from_numpy(images)), math.ceil(len(images) / space.batch_size)
    blocks = (batch.cpu().numpy() for batch in progress(batches, f"tangent features of {path.stem}", count))
    first = next(blocks)
    shape = (len(images), *first.shape[1:])
    write_streamed(path, _NAME, shape, chain([first], blocks), {}, metadata, np.dtype(np.float32))


def read_features(path: Path, tasks: int) -> TangentFeatures:
    """Map the features of a split over ``tasks`` task vectors into memory, after a check of every byte.

    Raises:
        UserError: the file is missing, damaged, or has another number of task vectors.
    """
    arrays, _ = map_arrays(path)
    features = arrays.get(_NAME)
    if features is None:
        raise UserError(f"{path}: holds {sorted(arrays)}, not tangent features; recreate it with `dvc repro`")
    if features.dtype != np.float32 or features.ndim != 3 or features.shape[1] != 1 + tasks:
        raise UserError(
            f"{path}: has {features.dtype} {list(features.shape)}, not the features of {tasks} task vectors; "
            "recreate it with `dvc repro`"
        )
    return features
