"""Encoders: the architectures the definitions mean, weights that fit, normalisation, the two towers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch import nn

from pipeline.errors import UserError
from pipeline.images import LabelledImages
from pipeline.io.arrays import write_arrays
from pipeline.models import load_model_definition, registry
from pipeline.models.encoders import (
    ImageEncoder,
    build_clip,
    load_clip,
    load_image_encoder,
    load_weights,
    split_towers,
)
from pipeline.models.registry import ModelDefinition

Arrays = dict[str, np.ndarray]


@pytest.fixture
def towers(tiny_clip: nn.Module) -> tuple[Arrays, Arrays]:
    return split_towers({name: tensor.numpy() for name, tensor in tiny_clip.state_dict().items()})


@pytest.fixture
def files(towers: tuple[Arrays, Arrays], tmp_path: Path) -> tuple[Path, Path]:
    image, text = tmp_path / "image.safetensors", tmp_path / "text.safetensors"
    write_arrays(image, towers[0], {})
    write_arrays(text, towers[1], {})
    return image, text


def test_vit_b_32_is_built_with_quick_gelu() -> None:
    clip = build_clip(load_model_definition("ViT-B-32"))
    activations = [module for module in clip.modules() if "GELU" in type(module).__name__]
    assert {type(activation).__name__ for activation in activations} == {"QuickGELU"}
    assert len(activations) == 12 + 12  # the blocks of both towers
    assert not clip.training
    x = torch.linspace(-3, 3, 13)
    torch.testing.assert_close(activations[0](x), x / (1 + torch.exp(-1.702 * x)))


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-16", "ViT-L-14"])
def test_openai_models_have_quick_gelu(name: str) -> None:
    architecture = load_model_definition(name).architecture
    assert architecture.startswith(name)
    config = open_clip.get_model_config(architecture)
    assert config is not None
    assert config["quick_gelu"] is True


def test_unknown_architecture(tiny_definition: ModelDefinition) -> None:
    definition = tiny_definition.model_copy(update={"architecture": "ViT-B-31"})
    with pytest.raises(UserError, match=r"^model tiny: open_clip has no architecture 'ViT-B-31'$"):
        build_clip(definition)


def test_no_warning_that_weights_are_random(tiny_definition: ModelDefinition, caplog: pytest.LogCaptureFixture) -> None:
    build_clip(tiny_definition)
    assert "No pretrained weights" not in caplog.text


def test_towers_are_all_of_it_and_apart(tiny_clip: nn.Module, towers: tuple[Arrays, Arrays]) -> None:
    image, text = towers
    assert image.keys() == tiny_clip.get_submodule("visual").state_dict().keys()
    assert {f"visual.{name}" for name in image} | text.keys() == tiny_clip.state_dict().keys()
    assert "logit_scale" in text


def test_clip_comes_back(tiny_clip: nn.Module, tiny_definition: ModelDefinition, files: tuple[Path, Path]) -> None:
    loaded = load_clip(tiny_definition, *files).state_dict()
    assert loaded.keys() == tiny_clip.state_dict().keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tiny_clip.state_dict().items())


def test_encoder_normalises_pixels_and_projects(
    tiny_clip: nn.Module,
    tiny_definition: ModelDefinition,
    files: tuple[Path, Path],
    make_images: Callable[..., LabelledImages],
) -> None:
    images = make_images(3).images
    encoder = load_image_encoder(tiny_definition, files[0])
    mean = np.array(tiny_definition.mean)[None, :, None, None]
    std = np.array(tiny_definition.std)[None, :, None, None]
    pixels = torch.from_numpy((images / 255 - mean) / std).float()
    expected = tiny_clip.get_submodule("visual")(pixels)
    torch.testing.assert_close(encoder(torch.from_numpy(images)), expected, rtol=1e-4, atol=1e-5)
    norms = expected.norm(dim=1)
    assert (norms - 1).abs().max() > 0.01  # not L2-normalised


def test_images_of_several_sizes_can_be_put_together(make_encoder: Callable[[], ImageEncoder]) -> None:
    encoder = make_encoder()
    images = [torch.zeros(2, 3, size, size, dtype=torch.uint8) for size in (28, 32, 224)]
    assert torch.cat([encoder.fit(some) for some in images]).shape == (6, 3, 32, 32)
    assert encoder.fit(images[1]) is images[1]


@pytest.mark.parametrize("size", [(28, 28), (20, 64), (224, 224)])
def test_images_of_another_size_are_resized_as_pil_does(
    make_encoder: Callable[[], ImageEncoder], tiny_definition: ModelDefinition, size: tuple[int, int]
) -> None:
    """To one level of 255, edges and all."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (4, 3, 5, 5), dtype=np.uint8).repeat(45, axis=2).repeat(45, axis=3)
    images = np.ascontiguousarray(images[:, :, : size[0], : size[1]])
    encoder = make_encoder()
    assert encoder.image_size == (32, 32)
    actual = encoder.normalise(torch.from_numpy(images))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (tiny_definition.mean, tiny_definition.std))
    for image, pixels in zip(images, actual, strict=True):
        resized = Image.fromarray(image.transpose(1, 2, 0)).resize((32, 32), Image.Resampling.BICUBIC)
        levels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
        assert ((pixels * std + mean) * 255 - levels).abs().max() < 1.01


def test_normalisation_is_no_parameter(make_encoder: Callable[[], ImageEncoder]) -> None:
    encoder = make_encoder()
    assert all(name.startswith("visual.") for name in encoder.state_dict())


def drop(arrays: Arrays) -> None:
    del arrays["conv1.weight"]


def add(arrays: Arrays) -> None:
    arrays["conv2.weight"] = np.zeros(3, np.float32)


def reshape(arrays: Arrays) -> None:
    arrays["conv1.weight"] = arrays["conv1.weight"][:5]


@pytest.mark.parametrize(
    ("change", "text"), [(drop, "conv1.weight"), (add, "conv2.weight"), (reshape, "size mismatch for conv1.weight")]
)
def test_weights_that_do_not_fit(
    change: Callable[[Arrays], None], text: str, towers: tuple[Arrays, Arrays], make_encoder: Callable[[], ImageEncoder]
) -> None:
    change(towers[0])
    with pytest.raises(UserError, match=text) as error:
        load_weights(make_encoder().visual, towers[0], "file.safetensors")
    assert str(error.value).startswith("file.safetensors: does not fit the architecture: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_not_finite(
    number: float, towers: tuple[Arrays, Arrays], make_encoder: Callable[[], ImageEncoder]
) -> None:
    broken = {**towers[0], "ln_post.bias": np.full_like(towers[0]["ln_post.bias"], number)}
    with pytest.raises(UserError, match=r"^file\.safetensors: tensor 'ln_post\.bias' holds NaN or infinity; "):
        load_weights(make_encoder().visual, broken, "file.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "its content: Invalid JSON"),
        ("[]", "its content: "),
        ('{"embed_dim": 16, "text_cfg": {}}', "vision_cfg: Field required"),
        ('{"embed_dim": "x", "text_cfg": {}, "vision_cfg": {}}', "embed_dim: "),
        ('{"embed_dim": 16, "text_cfg": [], "vision_cfg": {}}', "text_cfg: "),
        ("\xff", "its content: "),
    ],
)
def test_an_architecture_of_our_own_that_is_none(
    content: str, message: str, tiny_definition: ModelDefinition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others in the folder are not read."""
    monkeypatch.setattr(registry, "DEFINITIONS", tmp_path)
    path = tmp_path / tiny_definition.name / "mine.json"
    path.parent.mkdir()
    path.write_text(content, encoding="latin-1")
    with pytest.raises(UserError) as error:
        build_clip(tiny_definition.model_copy(update={"architecture": "mine"}))
    assert str(error.value).startswith(f"{path}: {message}")
    assert str(error.value).isprintable()
    build_clip(tiny_definition)


def test_missing_weights(tiny_definition: ModelDefinition, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_image_encoder(tiny_definition, tmp_path / "none.safetensors")


LAION = {"architecture": "ViT-B-32", "pretrained": "laion2b_s34b_b79k"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architecture": "ViT-B-32"},
            "the weights 'openai' were trained with QuickGELU, but architecture 'ViT-B-32' has GELU; "
            "choose its architecture with -quickgelu",
        ),
        (
            {"architecture": "roberta-ViT-B-32", "pretrained": "laion2b_s12b_b32k"},
            "were trained with GELU, but architecture 'roberta-ViT-B-32' has QuickGELU",
        ),
        ({"pretrained": "openia"}, "open_clip has no weights 'openia' of ViT-B-32-quickgelu; choose from openai, "),
        (LAION, "open_clip has the weights 'laion2b_s34b_b79k' in laion/CLIP-ViT-B-32-laion2B-s34B-b79K; correct"),
        ({"mean": (0.5, 0.5, 0.5)}, "the weights 'openai' need mean [0.48145466, 0.4578275, 0.40821073], not [0.5, "),
        ({"std": (0.5, 0.5, 0.5)}, "the weights 'openai' need std [0.26862954, "),
    ],
)
def test_a_definition_that_open_clip_knows_otherwise_is_refused(changes: dict[str, Any], message: str) -> None:
    definition = load_model_definition("ViT-B-32").model_copy(update=changes)
    with pytest.raises(UserError) as error:
        build_clip(definition)
    assert str(error.value).startswith("model ViT-B-32: ")
    assert message in str(error.value)


def test_another_pair_of_open_clip_is_one_definition() -> None:
    """An architecture with GELU, with LAION's weights."""
    openai = load_model_definition("ViT-B-32")
    repository = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    weights = openai.weights.model_copy(update={"repository": repository})
    clip = build_clip(openai.model_copy(update={**LAION, "weights": weights}))
    assert {type(m).__name__ for m in clip.modules() if "GELU" in type(m).__name__} == {"GELU"}


def test_an_encoder_that_gives_tokens_is_refused() -> None:
    coca = load_model_definition("ViT-B-32").model_copy(update={"architecture": "coca_ViT-B-32", "pretrained": None})
    with pytest.raises(UserError, match="returns tokens besides an embedding"):
        build_clip(coca)
