"""Tangent features as files: f₀(x) and J(x) τₜ of every image of a split, computed once for all stages that edit.

In tangent space an edit is affine: its embedding is f₀ + Σ aₜ J τₜ. So the coefficient search, every subset of tasks
and all heatmaps are matrix products of these.
"""

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from pipeline.editing.spaces import TangentSpace
from pipeline.errors import UserError
from pipeline.files import atomic_write, missing
from pipeline.progress import progress

Features = Float32[np.ndarray, "n parts features"]


def write_features(
    path: Path,
    space: TangentSpace,
    images: UInt8[np.ndarray, "n 3 height width"],
    batch_size: int,
    directions: int,
) -> None:
    """Compute and write the features of a split, ``[n, 1 + tasks, features]``, as float32 in NumPy's format.

    Memory holds one batch: ``batch_size`` images in at most ``directions`` directions at once.
    """
    batches = enumerate(space.features(torch.from_numpy(images), batch_size, directions))
    with atomic_write(path) as temporary:
        file = None
        for index, batch in progress(batches, f"tangent features of {path.stem}", math.ceil(len(images) / batch_size)):
            features = batch.cpu().numpy()
            if file is None:
                shape = (len(images), *features.shape[1:])
                file = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
            file[index * batch_size : index * batch_size + len(features)] = features
        if file is not None:
            file.flush()


def read_features(path: Path, tasks: int) -> Features:
    """The features of a split over ``tasks`` task vectors; read from the disk as they are needed.

    Raises:
        UserError: the file is missing, damaged, or of other task vectors.
    """
    try:
        # Copy on write: torch wants arrays that could be written to.
        features = np.load(path, mmap_mode="c", allow_pickle=False)
    except FileNotFoundError:
        raise missing(path) from None
    except ValueError as error:
        raise UserError(f"{path}: no array ({error}); make it again with `dvc repro`") from None
    if features.dtype != np.float32 or features.ndim != 3 or features.shape[1] != 1 + tasks:
        raise UserError(
            f"{path}: holds {features.dtype} {list(features.shape)}, not the features of {tasks} task vectors; "
            "make it again with `dvc repro`"
        )
    return features
