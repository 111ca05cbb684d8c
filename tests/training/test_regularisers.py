"""τJp regularisation: values and gradients against ``torch.func.jvp`` in float64, and τ = 0."""

import re
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.config import Recipe
from pipeline.errors import UserError
from pipeline.images import LabelledImages
from pipeline.models.checkpoints import Space
from pipeline.models.encoders import ImageEncoder
from pipeline.paradigms import TrainableEncoder, make_trainable
from pipeline.training import regulariser

EncoderFactory = Callable[[], ImageEncoder]

both_spaces = pytest.mark.parametrize("space", ["weight", "tangent"])
both_norms = pytest.mark.parametrize("norm", ["l2", "squared"])


@pytest.fixture
def images(make_images: Callable[..., LabelledImages]) -> Tensor:
    return torch.from_numpy(make_images(5).images)


def gradients(trainable: TrainableEncoder, penalty: Tensor) -> dict[str, Tensor]:
    values = torch.autograd.grad(penalty, list(trainable.trained.values()))
    return dict(zip(trainable.trained, values, strict=True))


def by_hand(
    encoder: ImageEncoder, images: Tensor, tau: dict[str, Tensor], norm: str
) -> tuple[float, dict[str, Tensor]]:
    """Σ ‖J(x) τ‖ or its square, and its gradient, in float64."""
    encoder.requires_grad_(False)
    x, visual = encoder.normalise(images).double(), encoder.visual.double()
    base = {name: visual.get_parameter(name) for name in tau}
    leaves = {name: tensor.double().requires_grad_(True) for name, tensor in tau.items()}
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            moved = jvp(lambda p: functional_call(visual, p, (x,)), (base,), (leaves,))[1]
            squares = (moved**2).sum(dim=1)
            penalty = sum((s if norm == "squared" else s**0.5) for s in squares)
            assert isinstance(penalty, Tensor)
            values = torch.autograd.grad(penalty, list(leaves.values()))
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    return penalty.item(), dict(zip(leaves, values, strict=True))


@both_spaces
@both_norms
@pytest.mark.parametrize("trainable", ["all", "attention"])
def test_value_and_gradient(
    make_encoder: EncoderFactory,
    make_recipe: Callable[..., Recipe],
    images: Tensor,
    base: dict[str, Tensor],
    space: Space,
    norm: str,
    trainable: str,
) -> None:
    """J is that of θ₀ in both spaces; the penalty is a sum over the images."""
    model = make_trainable(make_encoder(), make_recipe(space, trainable=trainable))
    random = torch.Generator().manual_seed(0)
    tau = {name: 0.1 * torch.randn(base[name].shape, generator=random) for name in model.trained}
    with torch.no_grad():
        for name, theta in model.trained.items():
            theta += tau[name]
    penalty = regulariser.find("tau_jp")(model, images, {"norm": norm})
    expected, slopes = by_hand(make_encoder(), images, tau, norm)
    assert penalty.item() == pytest.approx(expected, rel=1e-4)
    values = gradients(model, penalty)
    scale = torch.cat([slope.flatten() for slope in slopes.values()]).norm()
    for name, slope in slopes.items():
        assert (values[name].double() - slope).norm() < 1e-4 * scale, name
    single = sum(regulariser.find("tau_jp")(model, image[None], {"norm": norm}).item() for image in images)
    assert single == pytest.approx(penalty.item(), rel=1e-5)


@both_spaces
@both_norms
def test_at_the_start_nothing_is_penalised(
    make_encoder: EncoderFactory, make_recipe: Callable[..., Recipe], images: Tensor, space: Space, norm: str
) -> None:
    """The norm has no gradient at τ = 0; one that is NaN would ruin the first step."""
    model = make_trainable(make_encoder(), make_recipe(space))
    penalty = regulariser.find("tau_jp")(model, images, {"norm": norm})
    assert penalty.item() == 0
    assert all(torch.equal(slope, torch.zeros_like(slope)) for slope in gradients(model, penalty).values())


@pytest.mark.parametrize("options", [{}, {"norm": "l1"}, {"norm": True}, {"norms": "l2"}, {"norm": "l2", "p": 2.0}])
def test_options_that_it_does_not_know(
    make_encoder: EncoderFactory,
    make_recipe: Callable[..., Recipe],
    images: Tensor,
    options: Mapping[str, str | float | bool],
) -> None:
    model = make_trainable(make_encoder(), make_recipe("tangent"))
    line = f"regulariser tau_jp: unknown options {options}; choose norm: l2 or norm: squared"
    with pytest.raises(UserError, match=f"^{re.escape(line)}$"):
        regulariser.find("tau_jp")(model, images, options)


def test_it_needs_images(make_encoder: EncoderFactory, make_recipe: Callable[..., Recipe]) -> None:
    model = make_trainable(make_encoder(), make_recipe("tangent"))
    with pytest.raises(
        UserError, match=r"^regulariser tau_jp: others is null; name the tasks whose images it penalises$"
    ):
        regulariser.find("tau_jp")(model, None, {"norm": "l2"})


def test_an_unknown_regulariser_is_one_line_with_the_legal_ones() -> None:
    with pytest.raises(UserError, match=r"^unknown regulariser 'tau_pj'; choose from tau_jp"):
        regulariser.find("tau_pj")
