"""The exact tensors that each selection trains, for the papers' models."""

import open_clip
import pytest
import torch
from torch import nn

from pipeline.errors import UserError
from pipeline.paradigms import select

BLOCKS = [f"transformer.resblocks.{i}" for i in range(12)]


@pytest.fixture(scope="module")
def shapes() -> dict[str, dict[str, torch.Size]]:
    """Parameters of the image encoders, without memory for them."""
    with torch.device("meta"):
        encoders: dict[str, nn.Module] = {
            name: open_clip.CLIP(**open_clip.get_model_config(f"{name}-quickgelu")).visual  # pyright: ignore
            for name in ("ViT-B-32", "ViT-L-14")
        }
    return {model: {n: p.shape for n, p in encoder.named_parameters()} for model, encoder in encoders.items()}


@pytest.mark.parametrize(
    ("selection", "tensors"),
    [
        ("attention", ["attn.in_proj_weight", "attn.out_proj.weight"]),
        ("attention_bias", ["attn.in_proj_weight", "attn.in_proj_bias", "attn.out_proj.weight", "attn.out_proj.bias"]),
        ("linear", ["attn.in_proj_weight", "attn.out_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"]),
        (
            "linear_bias",
            [
                *("attn.in_proj_weight", "attn.in_proj_bias", "attn.out_proj.weight", "attn.out_proj.bias"),
                *("mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"),
            ],
        ),
    ],
)
def test_tensors_of_vit_b_32(shapes: dict[str, dict[str, torch.Size]], selection: str, tensors: list[str]) -> None:
    expected = {f"{block}.{tensor}" for block in BLOCKS for tensor in tensors}
    assert expected <= shapes["ViT-B-32"].keys()
    assert select(selection, shapes["ViT-B-32"]) == [name for name in shapes["ViT-B-32"] if name in expected]


def test_all_is_every_tensor(shapes: dict[str, dict[str, torch.Size]]) -> None:
    assert select("all", shapes["ViT-B-32"]) == list(shapes["ViT-B-32"])


def test_count_of_attention_weights_of_vit_l_14(shapes: dict[str, dict[str, torch.Size]]) -> None:
    """24 blocks of 4 · 1024² weights: the 100.66 million of OrthoReg's table 3."""
    sizes = shapes["ViT-L-14"]
    assert sum(sizes[name].numel() for name in select("attention", sizes)) == 24 * 4 * 1024**2 == 100_663_296


def test_an_unknown_selection_is_one_line_with_the_legal_ones() -> None:
    with pytest.raises(UserError, match=r"^unknown selection 'lora'; choose from all, attention, .*linear_bias$"):
        select("lora", ["proj"])


def test_a_selection_that_trains_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"^trainable: 'attention' selects no parameter"):
        select("attention", ["layer1.0.conv1.weight"])
