"""Every known format gives the same task vector; what does not fit is refused."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModel

from pipeline.errors import UserError
from pipeline.foreign.checkpoint import read_foreign
from pipeline.foreign.importing import Imported, import_task_vector
from pipeline.models.encoders import ImageEncoder

Save = Callable[[nn.Module], Path]

VISION = {
    "hidden_size": 32,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "projection_dim": 16,
    "hidden_act": "gelu",
}
TEXT = {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


def imported(path: Path, encoder: ImageEncoder, quick_gelu: bool = False) -> Imported:
    return import_task_vector(read_foreign(path), encoder, quick_gelu, "tiny", "theirs", "digits")


def prefixed(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def linearised(order: list[str], theta: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, object]:
    """As tangent_task_arithmetic saves it: numbered parameters, those of θ and those of θ₀, and a name."""
    lists = {"params": theta, "params0": base}
    numbered = {f"model.{key}.{i}": names[name] for key, names in lists.items() for i, name in enumerate(order)}
    return {**numbered, "model_name": "ViT-B-32"}


@pytest.fixture
def save(tmp_path: Path, origin: nn.Module, pickled: Save) -> Callable[[str, nn.Module], Path]:
    """Saves the fine-tuned CLIP in a format."""

    def saved(form: str, tuned: nn.Module) -> Path:
        state, visual = tuned.state_dict(), tuned.get_submodule("visual").state_dict()
        if form == "pickled module":
            return pickled(tuned)
        if form == "linearised":
            theta = {name: p for name, p in tuned.named_parameters() if not name.startswith("transformer.")}
            base = dict(origin.named_parameters())
            torch.save(linearised(sorted(theta), theta, base), tmp_path / "linear_finetuned.pt")
            return tmp_path / "linear_finetuned.pt"
        content = {
            "whole clip": state,
            "image encoder": visual,
            "text left out": {n: t for n, t in state.items() if not n.startswith("transformer.")},
            "in a classifier, in ddp": {
                **prefixed(state, "module.image_encoder.model."),
                "module.head.weight": torch.ones(3),
            },
        }[form]
        torch.save(content, tmp_path / "a.pt")
        save_file({n: t.contiguous() for n, t in content.items()}, tmp_path / "a.safetensors")
        return tmp_path / ("a.pt" if form == "whole clip" else "a.safetensors")

    return saved


@pytest.mark.parametrize(
    "form",
    ["whole clip", "image encoder", "text left out", "in a classifier, in ddp", "pickled module", "linearised"],
)
def test_a_format_gives_the_task_vector(
    form: str,
    save: Callable[[str, nn.Module], Path],
    tuned: nn.Module,
    tau: dict[str, Tensor],
    encoder: ImageEncoder,
) -> None:
    path = save(form, tuned)
    result = imported(path, encoder)
    assert result.vector.tensors.keys() == tau.keys()
    for name, tensor in result.vector.tensors.items():
        torch.testing.assert_close(tensor, tau[name], atol=1e-6, rtol=0)  # θ₀ + τ was rounded
    assert result.unmoved == ["proj"]
    assert result.absent == []
    assert result.base_is_known == (form == "linearised")
    assert not result.rounded
    origin = result.vector.provenance
    assert (origin.model, origin.recipe, origin.tasks) == ("tiny", "theirs", ("digits",))
    assert origin.space == ("tangent" if form == "linearised" else "weight")
    assert origin.base_sha256 == encoder.sha256
    assert origin.imported_from == f"{path.name}, SHA-256 {read_foreign(path).sha256}"
    norm = sum(float(t.double().square().sum()) for t in encoder.visual.state_dict().values()) ** 0.5
    assert result.relative_norm == pytest.approx(result.vector.norm() / norm)


@pytest.mark.parametrize("quick_gelu", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_a_vision_model_of_hugging_face_embeds_as_the_edited_encoder(
    quick_gelu: bool,
    whole: bool,
    tmp_path: Path,
    define: Callable,
    clip_of: Callable,
) -> None:
    """A random one; CLIPVisionModel has no projection, so that θ₀'s is taken."""
    vision = {**VISION, "hidden_act": "quick_gelu" if quick_gelu else "gelu"}
    torch.manual_seed(0)
    theirs: Any = (
        CLIPModel(CLIPConfig(vision_config=vision, text_config=TEXT, projection_dim=16))
        if whole
        else CLIPVisionModel(CLIPVisionConfig(**vision))
    ).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    definition = define(f"ViT-like-theirs-{quick_gelu}", quick_gelu=quick_gelu)
    visual = clip_of(definition).get_submodule("visual")
    result = imported(tmp_path, ImageEncoder(visual, definition, "a" * 64), quick_gelu)
    assert result.absent == ([] if whole else ["proj"])
    assert not result.unmoved

    x = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    projection = theirs.visual_projection.weight.detach().T if whole else visual.proj
    with torch.no_grad():
        pooled = (theirs.vision_model if whole else theirs).double()(pixel_values=x).pooler_output
        visual.load_state_dict(result.vector.apply(visual.state_dict()))
        torch.testing.assert_close(visual.double()(x), pooled @ projection.double(), atol=1e-5, rtol=1e-5)


def test_older_files_of_hugging_face_have_a_prefix_and_positions(
    tmp_path: Path, encoder: ImageEncoder, tuned: nn.Module
) -> None:
    torch.manual_seed(0)
    new = CLIPVisionModel(CLIPVisionConfig(**VISION)).state_dict()
    positions = {"vision_model.embeddings.position_ids": torch.arange(17)[None]}
    save_file(dict(new), tmp_path / "new.safetensors")
    save_file({**prefixed(dict(new), "vision_model."), **positions}, tmp_path / "old.safetensors")
    both = [imported(tmp_path / f"{age}.safetensors", encoder).vector.tensors for age in ("old", "new")]
    assert both[0].keys() == both[1].keys()
    assert all(tensor.equal(both[1][name]) for name, tensor in both[0].items())


def test_the_order_of_numbered_parameters_does_not_matter(
    tmp_path: Path, origin: nn.Module, tuned: nn.Module, encoder: ImageEncoder, tau: dict[str, Tensor]
) -> None:
    """Versions of open_clip order them otherwise; θ₀ in the file tells which is which."""
    theta, base = dict(tuned.named_parameters()), dict(origin.named_parameters())
    for order in (sorted(theta), sorted(theta, reverse=True)):
        torch.save(linearised(order, theta, base), tmp_path / "a.pt")
        vector = imported(tmp_path / "a.pt", encoder).vector
        assert vector.tensors.keys() == tau.keys()
        assert all(t.equal(theta[f"visual.{n}"] - base[f"visual.{n}"]) for n, t in vector.tensors.items())


def test_half_precision_is_said(tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder) -> None:
    torch.save(tuned.half().state_dict(), tmp_path / "a.pt")
    result = imported(tmp_path / "a.pt", encoder)
    assert result.rounded
    assert all(tensor.dtype == torch.float32 for tensor in result.vector.tensors.values())


def test_a_part_of_the_encoder_leaves_the_rest_at_the_base(
    tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder
) -> None:
    state = {n: t for n, t in tuned.state_dict().items() if n.startswith("visual.") and ".attn." in n}
    torch.save(state, tmp_path / "a.pt")
    result = imported(tmp_path / "a.pt", encoder)
    assert set(prefixed(dict(result.vector.tensors), "visual.")) == set(state)
    assert set(result.absent) == encoder.visual.state_dict().keys() - result.vector.tensors.keys()


def mistaken(kind: str, tuned: nn.Module, origin: nn.Module) -> dict[str, object]:
    state, base = tuned.state_dict(), origin.state_dict()
    theta = {n: t for n, t in state.items() if n.startswith("visual.")}
    names = list(theta)
    bare = {n.removeprefix("visual."): t for n, t in theta.items()}
    layer = "transformer.resblocks.0.mlp.c_fc"
    eight_bits = {n: t.to(torch.int8) if t.dim() == 2 else t for n, t in theta.items()}
    other = {**base, "visual.conv1.weight": base["visual.conv1.weight"] + 1e-6}
    return {
        "another theta 0": linearised(names, theta, other),
        "params without an end": {k: v for k, v in linearised(names, theta, base).items() if k != "model.params.3"},
        "theta 0 itself": base,
        "an unknown tensor": {**state, "visual.extra": torch.ones(2)},
        "another depth": {
            **state,
            **{n.replace("blocks.1.", "blocks.2."): t for n, t in theta.items() if "blocks.1." in n},
        },
        "a head": {**bare, "head.weight": torch.ones(2, 3), "logit_scale": torch.ones(())},
        "an epoch": {**bare, "epoch": torch.tensor(3)},
        "eight bits": {**eight_bits, f"visual.{layer}.SCB": torch.ones(128)},
        "four bits": {
            **state,
            f"visual.{layer}.weight": torch.ones(9, 1),
            f"visual.{layer}.weight.absmax": torch.ones(2),
        },
        "GPTQ": {**{n: t for n, t in bare.items() if n != f"{layer}.weight"}, f"{layer}.qweight": torch.ones(2).int()},
        "eight bits of Hugging Face": {
            **CLIPVisionModel(CLIPVisionConfig(**VISION)).state_dict(),
            "encoder.layers.0.mlp.fc1.SCB": torch.ones(128),
        },
        "placeholders": {n: torch.empty(0) for n in state},
        "placeholders of Hugging Face": {
            n: torch.empty(0) for n in CLIPVisionModel(CLIPVisionConfig(**VISION)).state_dict()
        },
        "an adapter beside": {**state, "visual.lora_A": torch.ones(2)},
        "an adapter alone": {"base_model.model.visual.transformer.resblocks.0.mlp.c_fc.lora_A.weight": torch.ones(2)},
        "an adapter around": {n.replace("mlp.c_fc.", "mlp.c_fc.base_layer."): t for n, t in state.items()},
        "a parametrised weight": {n.replace("proj", "parametrizations.proj.original"): t for n, t in state.items()},
        "a pruned weight": {n.replace("conv1.weight", "conv1.weight_orig"): t for n, t in state.items()},
        "moments alone": {"optimizer": {"exp_avg": state}},
        "another width": {**state, "visual.ln_post.bias": torch.ones(7)},
        "no image encoder": {"layer.weight": torch.ones(2)},
        "NaN": {**state, "visual.ln_post.bias": torch.full((32,), float("nan"))},
        "no value": {
            n: t
            for n, t in CLIPVisionModel(CLIPVisionConfig(**VISION)).state_dict().items()
            if "1.self_attn.v_proj.weight" not in n
        },
        "another part": {**CLIPVisionModel(CLIPVisionConfig(**VISION)).state_dict(), "encoder.x.weight": torch.ones(1)},
    }[kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("another theta 0", "starts from another θ₀: its params0 has nothing equal to this model's 'conv1.weight'"),
        ("params without an end", "params.3 is missing or of another shape than params0.3"),
        ("theta 0 itself", "no tensor differs from θ₀"),
        ("an unknown tensor", "holds more than the encoder: 'visual.extra'; save it without them"),
        ("another depth", ".resblocks.2.ln_1.weight' does not exist in this model; choose another --model"),
        ("a head", "holds more than the encoder: 'head.weight', 'logit_scale'; save it without them"),
        ("an epoch", "holds more than the encoder: 'epoch'; save it without them"),
        ("eight bits", "tensor 'visual.transformer.resblocks.0.mlp.c_fc.SCB' is quantised; take the original weights"),
        ("four bits", "mlp.c_fc.weight.absmax' is quantised; take the original weights"),
        ("GPTQ", "tensor 'transformer.resblocks.0.mlp.c_fc.qweight' is quantised; take the original weights"),
        ("eight bits of Hugging Face", "tensor 'encoder.layers.0.mlp.fc1.SCB' is quantised; take the original weights"),
        ("placeholders", "tensor 'visual.class_embedding' has no values; gather the weights before saving"),
        ("placeholders of Hugging Face", "has no values; gather the weights before saving"),
        ("an adapter beside", "tensor 'visual.lora_A' is an adapter's; merge it into the weights and save those"),
        ("an adapter alone", "holds an adapter and not the weights; merge it into them and save those"),
        ("an adapter around", "mlp.c_fc.base_layer.weight' is an adapter's; merge it into the weights and save those"),
        ("a parametrised weight", "' is of a re-parametrised or pruned weight; make that permanent and save it"),
        ("a pruned weight", "'visual.conv1.weight_orig' is of a re-parametrised or pruned weight; make that permanent"),
        ("moments alone", "holds no image encoder of this model; its tensors are named 'optimizer.exp_avg."),
        ("another width", "'visual.ln_post.bias' is [7], but [32] in this model"),
        ("no image encoder", "holds no image encoder of this model; its tensors are named 'layer.weight'"),
        ("NaN", "tensor 'ln_post.bias' holds NaN or infinity"),
        (
            "no value",
            "transformer.resblocks.1.attn.in_proj_weight: query, key and value do not fit together; k, q are there",
        ),
        ("another part", "tensor 'encoder.x.weight': has no counterpart in the other library's CLIP"),
    ],
)
def test_what_does_not_fit_is_refused(
    kind: str, message: str, tuned: nn.Module, origin: nn.Module, encoder: ImageEncoder, tmp_path: Path
) -> None:
    torch.save(mistaken(kind, tuned, origin), tmp_path / "a.pt")
    with pytest.raises(UserError) as error:
        imported(tmp_path / "a.pt", encoder)
    assert str(error.value).startswith(f"{tmp_path / 'a.pt'}: ")
    assert message in str(error.value)


def test_a_training_state_among_the_tensors_is_left_out(
    tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder, tau: dict[str, Tensor]
) -> None:
    state = dict(tuned.get_submodule("visual").state_dict())
    for content in (state, {**state, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}}):
        torch.save(content, tmp_path / "a.pt")
        result = imported(tmp_path / "a.pt", encoder)
        assert result.vector.tensors.keys() == tau.keys()
        left_out = "left out, since these are not weights: 'optimizer.*'"
        assert result.notes == ((left_out,) if "optimizer" in content else ())


def test_equal_tensors_of_the_base_are_not_guessed(
    tmp_path: Path, tiny_definition: object, define: Callable, clip_of: Callable
) -> None:
    definition = define("ViT-equal-tensors")
    clip = clip_of(definition)
    visual = clip.get_submodule("visual")
    visual.ln_pre.bias.copy_(visual.ln_post.bias)
    base = prefixed(visual.state_dict(), "visual.")
    theta = {name: tensor + 1 for name, tensor in base.items()}
    torch.save(linearised(list(base), theta, base), tmp_path / "a.pt")
    with pytest.raises(UserError, match="has an equal in θ₀, so the parameters cannot be told apart"):
        imported(tmp_path / "a.pt", ImageEncoder(visual, definition, "a" * 64))


@pytest.mark.parametrize(
    ("file", "content", "quick"),
    [
        ("config.json", {"model_type": "clip_vision_model"}, True),  # their default
        ("config.json", {"model_type": "clip_vision_model", "hidden_act": "gelu"}, False),
        ("config.json", {"model_type": "clip", "vision_config": {"hidden_act": "quick_gelu"}}, True),
        ("config.json", {"model_type": "vit"}, None),
        ("open_clip_config.json", {"model_cfg": {"embed_dim": 16}}, False),
        ("open_clip_config.json", {"model_cfg": {"quick_gelu": True}}, True),
    ],
)
def test_a_configuration_with_another_activation_is_refused(
    file: str, content: dict, quick: bool | None, tuned: nn.Module, encoder: ImageEncoder, tmp_path: Path
) -> None:
    save_file(tuned.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / file).write_text(json.dumps(content))
    assert read_foreign(tmp_path).quick_gelu is quick
    for quick_gelu in (True, False):
        if quick in (None, quick_gelu):
            imported(tmp_path, encoder, quick_gelu)
        else:
            with pytest.raises(UserError, match=r"was trained with (Quick)?GELU, but model tiny has (Quick)?GELU"):
                imported(tmp_path, encoder, quick_gelu)
