"""Edits from tangent features against direct propagation, for random edits; features as files."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config import EvaluationSettings
from pipeline.editing import TaskVector
from pipeline.editing.features import read_features, write_features
from pipeline.editing.spaces import FeatureSpace, TangentSpace
from pipeline.errors import UserError
from pipeline.images import LabelledImages
from pipeline.io.arrays import write_arrays
from pipeline.models.encoders import ImageEncoder

CPU = torch.device("cpu")


@pytest.fixture
def make_space(
    make_encoder: Callable[[], ImageEncoder], make_vector: Callable[..., TaskVector]
) -> Callable[..., TangentSpace]:
    """Makes a space of three task vectors; the second has only attention tensors."""
    vectors = [make_vector(0), make_vector(1, part="attn"), make_vector(2)]

    def make(batch_size: int, directions: int) -> TangentSpace:
        settings = EvaluationSettings(batch_size=batch_size, directions=directions, edits=1)
        return TangentSpace(make_encoder(), vectors, CPU, settings)

    return make


@pytest.fixture
def space(make_space: Callable[..., TangentSpace]) -> TangentSpace:
    return make_space(2, 2)


def embed(
    space: TangentSpace | FeatureSpace, coefficients: torch.Tensor, batches: Sequence[torch.Tensor]
) -> torch.Tensor:
    embeddings = {(edit, batch): embedded.clone() for edit, batch, embedded in space.embeddings(coefficients, batches)}
    return torch.stack(
        [torch.cat([embeddings[edit, b] for b in range(len(batches))]) for edit in range(len(coefficients))]
    )


@pytest.mark.parametrize(("batch_size", "directions"), [(7, 3), (2, 1), (3, 2), (100, 8)])
def test_edits_from_features_equal_direct_ones(
    make_space: Callable[..., TangentSpace],
    make_images: Callable[..., LabelledImages],
    tmp_path: Path,
    batch_size: int,
    directions: int,
) -> None:
    """Random ones, the pre-trained model, and single vectors; whatever the chunks of images and directions."""
    space = make_space(batch_size, directions)
    images = make_images(7).images
    path = tmp_path / "a" / "task.safetensors"
    write_features(path, space, images, {})
    features = torch.from_numpy(read_features(path, 3))
    assert features.shape == (7, 4, 16)

    random = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    coefficients = torch.cat([random, torch.zeros(1, 3), torch.eye(3)])
    direct = embed(space, coefficients, [torch.from_numpy(images)])
    from_features = embed(FeatureSpace(3, CPU, space.settings), coefficients, [features[:5], features[5:]])
    torch.testing.assert_close(from_features, direct, rtol=1e-5, atol=1e-5)
    assert direct.std() > 0.1


def test_without_an_edit_it_is_exactly_the_pretrained_encoder(
    space: TangentSpace,
    make_encoder: Callable[[], ImageEncoder],
    make_images: Callable[..., LabelledImages],
) -> None:
    images = torch.from_numpy(make_images(5).images)
    features = torch.cat(list(space.features(images)))
    with torch.inference_mode():
        expected = torch.cat([make_encoder().eval()(batch) for batch in images.split(space.batch_size)])
    assert torch.equal(embed(FeatureSpace(3, CPU, space.settings), torch.zeros(1, 3), [features])[0], expected)


def test_the_same_features_have_the_same_bytes(
    space: TangentSpace, make_images: Callable[..., LabelledImages], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        write_features(tmp_path / name, space, make_images(5).images, {})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_of_other_task_vectors(
    space: TangentSpace, make_images: Callable[..., LabelledImages], tmp_path: Path
) -> None:
    path = tmp_path / "features.safetensors"
    write_features(path, space, make_images(4).images, {})
    with pytest.raises(UserError, match=re.escape(f"{path}: has float32 [4, 4, 16], not the features of 2 task")):
        read_features(path, 2)


def test_a_file_that_is_missing_or_other(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.safetensors: no such file"):
        read_features(tmp_path / "gone.safetensors", 2)
    (tmp_path / "text").write_text("no array")
    with pytest.raises(UserError, match=r"text: damaged or not a safetensors file"):
        read_features(tmp_path / "text", 2)
    write_arrays(tmp_path / "head", {"weight": np.zeros((2, 2), np.float32)}, {})
    with pytest.raises(UserError, match=r"head: holds \['weight'\], not tangent features"):
        read_features(tmp_path / "head", 2)


def test_damage_that_keeps_size_and_time_is_noticed(
    space: TangentSpace, make_images: Callable[..., LabelledImages], tmp_path: Path
) -> None:
    """DVC takes such a file for unchanged."""
    path = tmp_path / "features"
    write_features(path, space, make_images(4).images, {"task": "a"})
    before, content = path.stat(), path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UserError, match="damaged, its content does not match its SHA-256"):
        read_features(path, 3)
