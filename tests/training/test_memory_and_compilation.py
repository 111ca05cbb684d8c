"""Activation checkpointing and torch.compile: they cost or save, and change nothing."""

import shutil
from collections.abc import Callable, Mapping

import open_clip.modified_resnet as resnet
import pytest
import torch
from torch import Tensor

from pipeline.config import Recipe
from pipeline.errors import UserError
from pipeline.images import LabelledImages
from pipeline.models.encoders import ImageEncoder
from pipeline.models.registry import ModelDefinition
from pipeline.paradigms import TrainableEncoder, make_trainable
from pipeline.training import StepRecord

Result = tuple[dict[str, Tensor], list[StepRecord]]
Train = Callable[..., Result]
Recipes = Mapping[str, Recipe]

both_spaces = pytest.mark.parametrize("kind", ["weight", "tangent", "attention"])


def bits(tensors: dict[str, Tensor]) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


@pytest.mark.parametrize("kind", ["weight", "tangent", "attention", "cyclic", "strict in weight space"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_checkpointing_changes_no_bit(train: Train, recipes: Recipes, kind: str, precision: str) -> None:
    plain, checkpointed = (
        train(recipes[kind], precision=precision, checkpointing=checkpointing) for checkpointing in (False, True)
    )
    assert bits(plain[0]) == bits(checkpointed[0])
    assert plain[1] == checkpointed[1]


def gradients_and_bytes_kept(trainable: TrainableEncoder, images: Tensor) -> tuple[list[Tensor], int]:
    """The gradients of a sum, and how many bytes the forward pass keeps for them beside the parameters."""
    parameters = {parameter.data_ptr() for parameter in trainable.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in parameters:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = trainable(images).square().sum()
    return list(torch.autograd.grad(output, list(trainable.trained.values()))), sum(kept.values())


@both_spaces
def test_checkpointing_keeps_less(
    make_encoder: Callable[[], ImageEncoder],
    make_images: Callable[..., LabelledImages],
    recipes: Recipes,
    kind: str,
) -> None:
    """Only the inputs of blocks are kept, not their activations."""
    images = torch.from_numpy(make_images(16).images)
    plain, checkpointed = (make_trainable(make_encoder(), recipes[kind]) for _ in range(2))
    with torch.no_grad():
        for trainable in (plain, checkpointed):
            for parameter in trainable.trained.values():
                parameter.add_(0.01)
    checkpointed.checkpoint_activations()
    expected, kept = gradients_and_bytes_kept(plain, images)
    gradients, fewer = gradients_and_bytes_kept(checkpointed, images)
    assert all(torch.equal(a, b) for a, b in zip(expected, gradients, strict=True))
    assert fewer < kept / 2


@pytest.mark.parametrize("kind", ["weight", "tangent"])
def test_an_encoder_without_blocks_is_one_line(recipes: Recipes, tiny_definition: ModelDefinition, kind: str) -> None:
    visual = resnet.ModifiedResNet([1, 1, 1, 1], 16, heads=2, image_size=32, width=8)
    trainable = make_trainable(ImageEncoder(visual, tiny_definition, "0" * 64), recipes["tangent"])
    with pytest.raises(
        UserError, match=r"^finetune\.checkpointing: ModifiedResNet is not an open_clip vision transformer"
    ):
        trainable.checkpoint_activations()


@pytest.mark.skipif(shutil.which("cc") is None and shutil.which("g++") is None, reason="torch.compile needs a compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_is_eager(train: Train, recipes: Recipes, base: dict[str, Tensor]) -> None:
    """But for the order of summation; micro-batches of two sizes, so that it is compiled more than once."""
    torch.compiler.reset()
    options = {"epochs": 2.0, "accumulation": 3}
    eager, compiled = (train(recipes["weight"], compile=compile, **options) for compile in (False, True))
    assert [r.loss for r in compiled[1]] == pytest.approx([r.loss for r in eager[1]], rel=1e-4)
    assert [r.grad_norm for r in compiled[1]] == pytest.approx([r.grad_norm for r in eager[1]], rel=1e-3)
    assert compiled[0].keys() == eager[0].keys()
    moved, expected = (
        torch.cat([(theta[name] - base[name]).flatten() for name in base if "in_proj_bias" not in name])
        for theta in (compiled[0], eager[0])
    )
    assert (moved - expected).norm() < 1e-2 * expected.norm()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    torch.compiler.reset()


def test_compile_leaves_tangent_space_alone(train: Train, recipes: Recipes) -> None:
    eager, compiled = (train(recipes["tangent"], compile=compile) for compile in (False, True))
    assert bits(eager[0]) == bits(compiled[0])
