"""The stock libraries load exported models, and their embeddings equal ours."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer, CLIPVisionModelWithProjection

from pipeline.errors import UserError
from pipeline.foreign.checkpoint import read_foreign
from pipeline.foreign.export import Format, write_clip
from pipeline.foreign.huggingface import image_encoder
from pipeline.models import load_model_definition
from pipeline.models.registry import ModelDefinition

TEXTS = ["a photo of a zebra", "The two cats, 12 of them", ""]

activations = pytest.mark.parametrize("quick_gelu", [True, False])


def towers(clip: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    state = clip.state_dict()
    image = {n.removeprefix("visual."): t for n, t in state.items() if n.startswith("visual.")}
    return image, {n: t for n, t in state.items() if not n.startswith("visual.")}


@pytest.fixture
def exported(define: Callable, clip_of: Callable, tmp_path: Path) -> Callable[..., tuple[nn.Module, ModelDefinition]]:
    """Writes a random CLIP into the test's folder."""

    def write(form: Format, name: str, **changes: object) -> tuple[nn.Module, ModelDefinition]:
        definition = define(name, **changes)
        clip = clip_of(definition)
        image, text = towers(clip)
        write_clip(tmp_path, form, definition, image, text)
        return clip.double(), definition

    return write


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@activations
@torch.no_grad()
def test_open_clip_loads_it(quick_gelu: bool, exported: Callable, x: torch.Tensor, tmp_path: Path) -> None:
    """By its architecture's name and the file, and as a folder that says everything."""
    clip, definition = exported("open_clip", f"ViT-open-{quick_gelu}", quick_gelu=quick_gelu)
    file = str(tmp_path / "open_clip_model.safetensors")
    model_and_transforms: Any = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    folder, _, preprocess = model_and_transforms
    tokens = open_clip.get_tokenizer(definition.architecture)(TEXTS)
    by_name: Any = open_clip.create_model(definition.architecture, pretrained=file)
    for loaded in (by_name.eval().double(), folder.eval().double()):
        torch.testing.assert_close(loaded.encode_image(x), clip.encode_image(x), atol=1e-12, rtol=0)
        torch.testing.assert_close(loaded.encode_text(tokens), clip.encode_text(tokens), atol=1e-12, rtol=0)
        assert loaded.logit_scale == clip.logit_scale
    assert preprocess.transforms[-1].mean == list(definition.mean)
    assert read_foreign(tmp_path).quick_gelu is quick_gelu


@activations
@torch.no_grad()
def test_hugging_face_loads_it(quick_gelu: bool, exported: Callable, x: torch.Tensor, tmp_path: Path) -> None:
    clip, definition = exported("huggingface", f"ViT-hf-{quick_gelu}", quick_gelu=quick_gelu)
    loaded: Any = CLIPModel.from_pretrained(tmp_path, output_loading_info=True)
    theirs, unknown = loaded
    assert not any(unknown.values()), unknown
    theirs = theirs.eval().double()
    torch.testing.assert_close(theirs.get_image_features(x).pooler_output, clip.encode_image(x), atol=1e-10, rtol=0)
    vision = CLIPVisionModelWithProjection.from_pretrained(tmp_path).eval().double()
    torch.testing.assert_close(vision(x).image_embeds, clip.encode_image(x), atol=1e-10, rtol=0)
    assert theirs.logit_scale == clip.logit_scale
    assert read_foreign(tmp_path).quick_gelu is quick_gelu

    tokens = CLIPTokenizer.from_pretrained(tmp_path)(TEXTS, padding="max_length", truncation=True, return_tensors="pt")
    ours = open_clip.get_tokenizer(definition.architecture)(TEXTS)
    assert tokens["input_ids"].shape == ours.shape
    torch.testing.assert_close(theirs.get_text_features(**tokens).pooler_output, clip.encode_text(ours))

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8))
    prepared = CLIPImageProcessor.from_pretrained(tmp_path)(image, return_tensors="pt")["pixel_values"][0]
    transform: Any = open_clip.image_transform(32, is_train=False, mean=definition.mean, std=definition.std)
    assert (prepared - transform(image)).abs().max() < 1.01 / 255 / min(definition.std)  # one level, from rounding


def test_what_hugging_face_gets_can_be_imported_again(exported: Callable, tmp_path: Path) -> None:
    clip, _ = exported("huggingface", "ViT-there-and-back")
    tensors = image_encoder(load_file(tmp_path / "model.safetensors"))
    expected = clip.get_submodule("visual").state_dict()
    assert tensors.keys() == expected.keys()
    assert all(tensor.double().equal(expected[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize("name", ["mini-clip", "ViT-B-32"])
def test_the_committed_architectures_can_be_expressed(name: str, tmp_path: Path) -> None:
    """Only their configuration here; a vocabulary of one's own goes with the model."""
    from pipeline.foreign.huggingface_config import clip_config
    from pipeline.models.encoders import architecture_config

    definition = load_model_definition(name)
    config = clip_config(definition, architecture_config(definition))
    assert config["text_config"]["eos_token_id"] == config["text_config"]["vocab_size"] - 1
    assert config["vision_config"]["hidden_act"] == {"mini-clip": "gelu", "ViT-B-32": "quick_gelu"}[name]
    if name == "ViT-B-32":
        assert config["vision_config"]["num_attention_heads"] == 12
        assert config["vision_config"]["intermediate_size"] == 3072


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"vision_cfg__pool_type": "avg"}, "vision_cfg.pool_type: 'avg'"),
        ({"vision_cfg__no_ln_pre": True}, "vision_cfg.no_ln_pre: True"),
        ({"vision_cfg__ls_init_value": 0.1}, "vision_cfg.ls_init_value: 0.1"),
        ({"text_cfg__no_causal_mask": True}, "text_cfg.no_causal_mask: True"),
        ({"vision_cfg__layers": [1, 1, 1, 1]}, "vision_cfg.layers: [1, 1, 1, 1]"),
        ({"init_logit_bias": -10}, "init_logit_bias: -10"),
    ],
)
def test_what_hugging_face_cannot_express_is_refused(
    changes: dict, key: str, define: Callable, clip_of: Callable, tmp_path: Path
) -> None:
    definition = define("ViT-inexpressible", **changes)
    with pytest.raises(UserError) as error:
        write_clip(tmp_path, "huggingface", definition, {}, {})
    assert f"Hugging Face's CLIP has no counterpart of {key} in architecture 'ViT-inexpressible'" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_weights_are_written_in_float32(define: Callable, clip_of: Callable, tmp_path: Path) -> None:
    definition = define("ViT-half")
    clip = copy.deepcopy(clip_of(definition)).half()
    text = {n: t for n, t in clip.state_dict().items() if not n.startswith("visual.")}
    write_clip(tmp_path, "open_clip", definition, clip.get_submodule("visual").state_dict(), text)
    assert {tensor.dtype for tensor in load_file(tmp_path / "open_clip_model.safetensors").values()} == {torch.float32}


@pytest.mark.parametrize("form", ["open_clip", "huggingface"])
@pytest.mark.parametrize("tower", ["image", "text"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_exported(
    number: float, tower: str, form: Format, define: Callable, clip_of: Callable, tmp_path: Path
) -> None:
    definition = define("ViT-not-finite")
    image, text = ({n: t.clone() for n, t in part.items()} for part in towers(clip_of(definition)))
    {"image": image, "text": text}[tower]["positional_embedding"][0, 0] = number
    with pytest.raises(
        UserError, match=f"^{tower} .*: tensor 'positional_embedding' holds NaN or infinity; it is not "
    ):
        write_clip(tmp_path, form, definition, image, text)
    assert not list(tmp_path.iterdir())
