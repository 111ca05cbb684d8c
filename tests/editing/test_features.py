"""Edits from tangent features against direct propagation, for random edits; features as files."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.editing import TaskVector
from pipeline.editing.features import read_features, write_features
from pipeline.editing.spaces import FeatureSpace, TangentSpace
from pipeline.errors import UserError
from pipeline.models.encoders import ImageEncoder
from pipeline.tasks import LabelledImages

CPU = torch.device("cpu")


@pytest.fixture
def space(make_encoder: Callable[[], ImageEncoder], make_vector: Callable[..., TaskVector]) -> TangentSpace:
    """Of three task vectors, of which the second holds only attention tensors."""
    return TangentSpace(make_encoder(), [make_vector(0), make_vector(1, part="attn"), make_vector(2)], CPU)


def embed(
    space: TangentSpace | FeatureSpace, coefficients: torch.Tensor, batches: Sequence[torch.Tensor]
) -> torch.Tensor:
    found = {(edit, batch): embedded.clone() for edit, batch, embedded in space.embeddings(coefficients, batches)}
    return torch.stack([torch.cat([found[edit, b] for b in range(len(batches))]) for edit in range(len(coefficients))])


@pytest.mark.parametrize(("batch_size", "directions"), [(7, 3), (2, 1), (3, 2), (100, 8)])
def test_edits_from_features_equal_direct_ones(
    space: TangentSpace, make_images: Callable[..., LabelledImages], tmp_path: Path, batch_size: int, directions: int
) -> None:
    """Random ones, the pre-trained model, and single vectors; whatever the chunks of images and directions."""
    images = make_images(7).images
    path = tmp_path / "a" / "task.npy"
    write_features(path, space, images, batch_size, directions)
    features = torch.from_numpy(read_features(path, 3))
    assert features.shape == (7, 4, 16)

    random = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    coefficients = torch.cat([random, torch.zeros(1, 3), torch.eye(3)])
    direct = embed(space, coefficients, [torch.from_numpy(images)])
    found = embed(FeatureSpace(3, CPU), coefficients, [features[:5], features[5:]])
    torch.testing.assert_close(found, direct, rtol=1e-5, atol=1e-5)
    assert direct.std() > 0.1


def test_without_an_edit_it_is_exactly_the_pretrained_encoder(
    space: TangentSpace,
    make_encoder: Callable[[], ImageEncoder],
    make_images: Callable[..., LabelledImages],
) -> None:
    images = torch.from_numpy(make_images(5).images)
    features = torch.cat(list(space.features(images, 8, 8)))
    with torch.inference_mode():
        expected = make_encoder().eval()(images)
    assert torch.equal(embed(FeatureSpace(3, CPU), torch.zeros(1, 3), [features])[0], expected)


def test_the_same_features_have_the_same_bytes(
    space: TangentSpace, make_images: Callable[..., LabelledImages], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        write_features(tmp_path / name, space, make_images(5).images, 2, 2)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_of_other_task_vectors(
    space: TangentSpace, make_images: Callable[..., LabelledImages], tmp_path: Path
) -> None:
    path = tmp_path / "features.npy"
    write_features(path, space, make_images(4).images, 4, 4)
    with pytest.raises(UserError, match=re.escape(f"{path}: holds float32 [4, 4, 16], not the features of 2 task")):
        read_features(path, 2)


def test_a_file_that_is_missing_or_no_array(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.npy"):
        read_features(tmp_path / "gone.npy", 2)
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(UserError, match=r"text\.npy: no array"):
        read_features(tmp_path / "text.npy", 2)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"objects\.npy: no array"):
        read_features(tmp_path / "objects.npy", 2)
