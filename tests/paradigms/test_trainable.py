"""The parameters that a recipe moves, in either space, and J(x) τ at θ₀ in both."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.config import FinetuneSettings, Recipe
from pipeline.errors import UserError
from pipeline.images import LabelledImages
from pipeline.models.checkpoints import Space
from pipeline.models.encoders import ImageEncoder
from pipeline.models.heads import Head
from pipeline.paradigms import TrainableEncoder, make_trainable
from pipeline.training import Plan, TrainingData, finetune

EncoderFactory = Callable[[], ImageEncoder]
ImageFactory = Callable[..., LabelledImages]
RecipeFactory = Callable[..., Recipe]

both_spaces = pytest.mark.parametrize("space", ["weight", "tangent"])
selections = pytest.mark.parametrize("trainable", ["all", "attention"])


def chosen(trainable: str, base: dict[str, Tensor]) -> list[str]:
    """The names of the tiny encoder's trained tensors."""
    return [name for name in base if trainable == "all" or ("attn" in name and name.endswith("weight"))]


def move(trainable: TrainableEncoder, scale: float = 0.1, seed: int = 0) -> dict[str, Tensor]:
    """Add a random τ to θ in place; the same names, shapes and values."""
    random = torch.Generator().manual_seed(seed)
    tau = {name: scale * torch.randn(theta.shape, generator=random) for name, theta in trainable.trained.items()}
    with torch.no_grad():
        for name, theta in trainable.trained.items():
            theta += tau[name]
    return tau


def reference(make_encoder: EncoderFactory, images: Tensor, tau: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """f(x; θ₀) and J(x) τ by ``torch.func.jvp`` in float64."""
    encoder = make_encoder().requires_grad_(False)
    x, visual = encoder.normalise(images).double(), encoder.visual.double()
    base = {name: visual.get_parameter(name) for name in tau}
    direction = {name: tensor.double() for name, tensor in tau.items()}
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            primal, tangent = jvp(lambda p: functional_call(visual, p, (x,)), (base,), (direction,))[:2]
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    return primal.float(), tangent.float()


@both_spaces
@selections
def test_it_starts_at_the_pretrained_weights(
    make_encoder: EncoderFactory,
    make_images: ImageFactory,
    make_recipe: RecipeFactory,
    base: dict[str, Tensor],
    space: Space,
    trainable: str,
) -> None:
    model = make_trainable(make_encoder(), make_recipe(space, trainable=trainable))
    names = chosen(trainable, base)
    assert list(model.trained) == list(model.base) == list(model.tau()) == names
    for name in names:
        assert torch.equal(model.trained[name], base[name])
        assert torch.equal(model.base[name], base[name])
        assert torch.equal(model.tau()[name], torch.zeros(1, *base[name].shape))
    wanting = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert wanting == {id(parameter) for parameter in model.trained.values()}
    assert not any(module.training for module in model.get_submodule("encoder").modules())
    images = torch.from_numpy(make_images(3).images)
    with torch.no_grad():
        torch.testing.assert_close(model(images), make_encoder()(images), rtol=1e-5, atol=1e-5)


@both_spaces
@selections
def test_only_the_selected_parameters_are_trained(
    make_encoder: EncoderFactory,
    make_head: Callable[..., Head],
    make_images: ImageFactory,
    make_recipe: RecipeFactory,
    finetune_settings: FinetuneSettings,
    base: dict[str, Tensor],
    space: Space,
    trainable: str,
) -> None:
    encoder = make_encoder()
    model = make_trainable(encoder, make_recipe(space, trainable=trainable))
    data, plan = TrainingData(make_images(16), make_head(2)), Plan(finetune_settings, 1e-3, 1.0, 0)
    trained, _ = finetune(model, data, plan, torch.device("cpu"), lambda record: None)
    assert list(trained) == chosen(trainable, base)
    assert all(not torch.equal(trained[name], base[name]) for name in trained)
    assert all(torch.equal(model.base[name], base[name]) for name in trained)
    for name, parameter in encoder.visual.named_parameters():
        moved = space == "weight" and name in trained
        assert torch.equal(parameter, trained[name] if moved else base[name])


@selections
def test_tangent_space_embeds_with_the_linearised_encoder(
    make_encoder: EncoderFactory, make_images: ImageFactory, make_recipe: RecipeFactory, trainable: str
) -> None:
    model = make_trainable(make_encoder(), make_recipe("tangent", trainable=trainable))
    images = torch.from_numpy(make_images(3).images)
    primal, tangent = reference(make_encoder, images, move(model))
    torch.testing.assert_close(model(images), primal + tangent, rtol=1e-4, atol=1e-5)


@selections
def test_weight_space_embeds_with_the_moved_encoder(
    make_encoder: EncoderFactory, make_images: ImageFactory, make_recipe: RecipeFactory, trainable: str
) -> None:
    model = make_trainable(make_encoder(), make_recipe("weight", trainable=trainable))
    images = torch.from_numpy(make_images(3).images)
    tau, moved = move(model), make_encoder()
    with torch.no_grad():
        for name, tensor in tau.items():
            moved.visual.get_parameter(name).add_(tensor)
        torch.testing.assert_close(model(images), moved(images), rtol=1e-5, atol=1e-6)


@both_spaces
@selections
def test_the_tangent_is_taken_at_the_pretrained_weights(
    make_encoder: EncoderFactory,
    make_images: ImageFactory,
    make_recipe: RecipeFactory,
    base: dict[str, Tensor],
    space: Space,
    trainable: str,
) -> None:
    """In weight space too, where the encoder itself has moved; and again after it has moved further."""
    model = make_trainable(make_encoder(), make_recipe(space, trainable=trainable))
    images = torch.from_numpy(make_images(3).images)
    tau = move(model)
    for seed in (1, 2):
        _, expected = reference(make_encoder, images, tau)
        tangent = model.tangent(images)
        torch.testing.assert_close(tangent, expected, rtol=1e-4, atol=1e-5)
        assert tangent.norm() > 0.1
        # And its gradient with respect to θ is that of the linear map τ ↦ J(x) τ.
        weight = torch.randn(tangent.shape, generator=torch.Generator().manual_seed(seed))
        gradients = torch.autograd.grad(tangent, list(model.trained.values()), weight)
        slope = sum((g * tau[name]).sum() for name, g in zip(model.trained, gradients, strict=True))
        torch.testing.assert_close(slope, (weight * expected).sum(), rtol=1e-3, atol=1e-4)
        assert all(torch.equal(model.base[name], base[name]) for name in model.base)
        more = move(model, seed=seed)
        tau = {name: tensor + more[name] for name, tensor in tau.items()}


def test_recipes_may_be_unlike_those_of_the_papers(
    make_encoder: EncoderFactory, make_images: ImageFactory, make_recipe: RecipeFactory
) -> None:
    """Attention weights in tangent space: the parts of a recipe combine freely."""
    model = make_trainable(make_encoder(), make_recipe("tangent", trainable="attention_bias"))
    images = torch.from_numpy(make_images(2).images)
    primal, tangent = reference(make_encoder, images, move(model))
    assert all("attn" in name for name in model.trained)
    torch.testing.assert_close(model(images), primal + tangent, rtol=1e-4, atol=1e-5)


@both_spaces
@selections
def test_it_may_start_from_a_task_vector(
    space: Space,
    trainable: str,
    make_encoder: EncoderFactory,
    make_recipe: RecipeFactory,
    make_images: ImageFactory,
    base: dict[str, Tensor],
) -> None:
    """It embeds, and is penalised, as the one that has trained to there from θ₀."""
    recipe = make_recipe(space, trainable=trainable)
    at_base = make_trainable(make_encoder(), recipe)
    tau = move(at_base)
    begun = make_trainable(make_encoder(), recipe, tau)
    images = torch.from_numpy(make_images(6).images)
    with torch.no_grad():
        torch.testing.assert_close(begun(images), at_base(images), rtol=0, atol=0)
        torch.testing.assert_close(begun.tangent(images), at_base.tangent(images), rtol=0, atol=0)
    assert all(tensor.equal(base[name]) for name, tensor in begun.base.items())
    assert all(theta.requires_grad and theta.is_leaf for theta in begun.trained.values())
    assert all(theta.equal(base[name] + tau[name]) for name, theta in begun.trained.items())


@both_spaces
def test_a_start_may_hold_fewer_tensors_but_no_others(
    space: Space, make_encoder: EncoderFactory, make_recipe: RecipeFactory, base: dict[str, Tensor]
) -> None:
    name = "transformer.resblocks.0.attn.in_proj_weight"
    some = {name: torch.ones_like(base[name])}
    begun = make_trainable(make_encoder(), make_recipe(space, trainable="attention"), some)
    assert [n for n, theta in begun.trained.items() if not theta.equal(base[n])] == [name]
    for wrong in ({"conv1.weight": torch.ones_like(base["conv1.weight"])}, {name: torch.ones(1)}):
        with pytest.raises(UserError, match=r"start: its task vector moves .* which this recipe does not train"):
            make_trainable(make_encoder(), make_recipe(space, trainable="attention"), wrong)
