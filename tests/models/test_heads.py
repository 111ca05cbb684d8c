"""Heads against an independent computation in float64."""

import copy
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from torch import nn

from pipeline.errors import UserError
from pipeline.io.arrays import write_arrays
from pipeline.models.devices import prepare_device
from pipeline.models.heads import Head, build_head, read_head, write_head
from pipeline.models.registry import ModelDefinition
from pipeline.tasks import TaskCard


def expected_rows(clip: nn.Module, architecture: str, card: TaskCard) -> np.ndarray:
    """Encode each prompt alone, normalise, average, normalise, times exp(logit scale); all in float64."""
    exact = copy.deepcopy(clip).double()
    tokenize = open_clip.get_tokenizer(architecture)
    rows = []
    for name in card.classes:
        prompts = [template.replace("{}", name) for template in card.templates]
        vectors = []
        for prompt in prompts:
            vector = exact.encode_text(tokenize([prompt]))[0].numpy()  # pyright: ignore[reportCallIssue]
            vectors.append(vector / np.sqrt((vector**2).sum()))
        mean = np.stack(vectors).mean(axis=0)
        rows.append(mean / np.sqrt((mean**2).sum()))
    return np.stack(rows) * np.exp(exact.get_parameter("logit_scale").item())


@pytest.fixture(scope="module")
def scaled_clip(tiny_clip: nn.Module) -> nn.Module:
    """With another logit scale than the initial one."""
    clip = copy.deepcopy(tiny_clip)
    clip.get_parameter("logit_scale").fill_(1.3)
    return clip


def test_head_equals_float64(scaled_clip: nn.Module, tiny_definition: ModelDefinition, card: TaskCard) -> None:
    head = build_head(scaled_clip, tiny_definition, card.classes, card.templates)
    expected = expected_rows(scaled_clip, tiny_definition.architecture, card)
    assert head.weight.shape == (3, 16)
    np.testing.assert_allclose(head.weight.numpy(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), np.exp(1.3))
    spread = np.abs(expected[0] - expected[1]).max()
    assert spread > 1e-2  # the classes differ by more than the tolerance


def test_rows_are_in_the_order_of_the_classes(
    scaled_clip: nn.Module, tiny_definition: ModelDefinition, card: TaskCard
) -> None:
    head = build_head(scaled_clip, tiny_definition, card.classes, card.templates)
    order = [2, 0, 1]
    shuffled = card.model_copy(update={"classes": [card.classes[i] for i in order]})
    again = build_head(scaled_clip, tiny_definition, shuffled.classes, shuffled.templates)
    assert again.classes == ["guinea pig", "zebra", "cat"]
    torch.testing.assert_close(again.weight, head.weight[order])


def test_more_classes_than_open_clip_encodes_at_once(
    scaled_clip: nn.Module, tiny_definition: ModelDefinition, card: TaskCard
) -> None:
    many = card.model_copy(update={"classes": [f"thing number {i}" for i in range(23)]})
    head = build_head(scaled_clip, tiny_definition, many.classes, many.templates)
    expected = expected_rows(scaled_clip, tiny_definition.architecture, many)
    np.testing.assert_allclose(head.weight.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_makes_the_same_head(
    scaled_clip: nn.Module, tiny_definition: ModelDefinition, card: TaskCard, tmp_path: Path
) -> None:
    device = prepare_device("cuda")
    head = build_head(copy.deepcopy(scaled_clip).to(device), tiny_definition, card.classes, card.templates)
    assert head.weight.device.type == "cuda"
    write_head(tmp_path / "head.safetensors", head, {})
    expected = expected_rows(scaled_clip, tiny_definition.architecture, card)
    np.testing.assert_allclose(read_head(tmp_path / "head.safetensors").weight.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_class_names_with_braces(scaled_clip: nn.Module, tiny_definition: ModelDefinition, card: TaskCard) -> None:
    odd = card.model_copy(update={"classes": ["{0}", "a {} b"]})
    head = build_head(scaled_clip, tiny_definition, odd.classes, odd.templates)
    expected = expected_rows(scaled_clip, tiny_definition.architecture, odd)
    np.testing.assert_allclose(head.weight.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_logits_are_scaled_cosines() -> None:
    random = np.random.default_rng(0)
    weight, embeddings = random.normal(size=(4, 6)), random.normal(size=(5, 6)) * 7
    head = Head(torch.from_numpy(weight).float(), list("abcd"))
    norms = np.sqrt((embeddings**2).sum(axis=1))
    expected = [[embeddings[i] @ weight[c] / norms[i] for c in range(4)] for i in range(5)]
    np.testing.assert_allclose(head.logits(torch.from_numpy(embeddings).float()).numpy(), expected, rtol=1e-5)


def test_head_comes_back(tmp_path: Path) -> None:
    head = Head(torch.randn(2, 3), ["één", "two"])
    write_head(tmp_path / "head", head, {"task": "digits"})
    head_read = read_head(tmp_path / "head")
    assert torch.equal(head_read.weight, head.weight)
    assert head_read.classes == head.classes


@pytest.mark.parametrize(
    ("arrays", "metadata", "text"),
    [
        ({"weight": np.ones((2, 3), np.float32)}, {"classes": ["a"]}, "one row per class"),
        ({"weight": np.ones((2, 3), np.float32)}, {}, "one row per class"),
        ({"weight": np.ones((2, 3), np.float32)}, {"classes": 2}, "one row per class"),
        ({"bias": np.ones((2, 3), np.float32)}, {"classes": ["a", "b"]}, "one row per class"),
        ({"weight": np.array([[1, np.nan]], np.float32)}, {"classes": ["a"]}, "NaN or infinity"),
        ({"weight": np.array([[1, -np.inf]], np.float32)}, {"classes": ["a"]}, "NaN or infinity"),
    ],
)
def test_file_that_is_no_head(
    arrays: dict[str, np.ndarray], metadata: dict[str, list[str]], text: str, tmp_path: Path
) -> None:
    path = tmp_path / "head.safetensors"
    write_arrays(path, arrays, metadata)
    with pytest.raises(UserError, match=text) as error:
        read_head(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_head_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'weight' holds NaN or infinity; check the text tower"):
        write_head(tmp_path / "head", Head(torch.tensor([[1.0, torch.inf]]), ["a"]), {})
    assert not list(tmp_path.iterdir())
