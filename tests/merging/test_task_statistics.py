"""Statistics of a task's images under its single-task model, against autograd of that model in float64."""

import copy
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp

from pipeline.config import MergingImages, MergingSettings
from pipeline.errors import UserError
from pipeline.merging import read_steps, task_statistics
from pipeline.models.checkpoints import Space
from pipeline.models.encoders import ImageEncoder
from pipeline.models.heads import Head
from pipeline.tangent import plain_attention
from tests.conftest import EncoderFactory, ImageFactory, VectorFactory

SEED = 3
SPACES: tuple[Space, ...] = ("weight", "tangent")


@pytest.fixture
def images(make_images: ImageFactory) -> Tensor:
    return torch.from_numpy(make_images(5, 3).images)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("part", ["", "attn"])
def test_fisher_diagonals_are_of_the_model_in_its_space(
    space: Space,
    part: str,
    images: Tensor,
    make_encoder: EncoderFactory,
    make_vector: VectorFactory,
    make_head: Callable[..., Head],
) -> None:
    encoder, vector, head = make_encoder(), make_vector(0, scale=0.1, part=part), make_head(3)
    before = {name: p.clone() for name, p in encoder.named_parameters()}
    found = task_statistics("fisher", encoder, vector, head, images.split(2), space, SEED)
    assert all(p.equal(before[name]) for name, p in encoder.named_parameters())
    assert (found.kind, found.images) == ("fisher", 5)

    visual = copy.deepcopy(encoder.visual).double().eval()
    base = {name: p.detach() for name, p in visual.named_parameters()}
    own = {name: t.double() for name, t in vector.tensors.items()}
    tau = {name: own.get(name, torch.zeros_like(p)) for name, p in base.items()}

    def scores(moved: Mapping[str, Tensor], image: Tensor) -> Tensor:
        def embed(weights: dict[str, Tensor]) -> Tensor:
            x = (image[None].double() / 255 - encoder.mean.double()) / encoder.std.double()
            return functional_call(visual, weights, (x,))

        if space == "weight":
            embedded = embed({name: base[name] + moved[name] for name in base})
        else:
            pretrained, change = jvp(embed, (base,), (dict(moved),))  # pyright: ignore[reportAssignmentType]
            embedded = pretrained + change
        return (nn.functional.normalize(embedded, dim=1) @ head.weight.double().T).log_softmax(1)[0]

    random = torch.Generator().manual_seed(SEED)
    expected = {name: torch.zeros_like(p) for name, p in base.items()}
    with plain_attention():
        for image in images:
            label = int(torch.multinomial(scores(tau, image).exp().float(), 1, generator=random))
            slopes = grad(lambda moved: scores(moved, image)[label])(tau)  # noqa: B023
            for name, slope in slopes.items():
                expected[name] += slope.square() / len(images)
    for name, tensor in expected.items():
        torch.testing.assert_close(
            torch.from_numpy(found.tensors[name]).double(), tensor, rtol=1e-3, atol=1e-4 * float(tensor.max())
        )


@pytest.mark.parametrize("space", SPACES)
def test_gram_matrices_are_of_the_inputs_that_an_update_acts_on(
    space: Space,
    images: Tensor,
    make_encoder: EncoderFactory,
    make_vector: VectorFactory,
    make_head: Callable[..., Head],
) -> None:
    """Those of the moved encoder in weight space, and those at θ₀ in tangent space."""
    encoder, vector = make_encoder(), make_vector(0, scale=0.1)
    found = task_statistics("gram", encoder, vector, make_head(3), images.split(2), space, SEED)
    moved: ImageEncoder = make_encoder()
    if space == "weight":
        with torch.no_grad():
            for name, tensor in vector.tensors.items():
                moved.visual.get_parameter(name).add_(tensor)
    inputs: list[Tensor] = []
    layer = moved.visual.get_submodule("transformer.resblocks.1.mlp.c_fc")
    layer.register_forward_hook(lambda _module, args, _output: inputs.append(args[0].detach().flatten(0, 1)))
    moved(images)
    rows = inputs[0].double()
    given = torch.from_numpy(found.tensors["transformer.resblocks.1.mlp.c_fc.weight"]).double()
    torch.testing.assert_close(given, rows.T @ rows / len(rows), rtol=1e-4, atol=1e-5)


GRAM = MergingImages(statistic="gram", split="train", count=256, seed=0)


def _merging(name: str, images: MergingImages | None = None, **others: object) -> MergingSettings:
    settings = MergingSettings(name=name, options={}, images=images, modifiers=[], extension=None)
    return settings.model_copy(update=others)


def test_methods_get_the_images_that_they_need() -> None:
    for space in SPACES:
        assert read_steps(_merging("regmean", GRAM), space)[0].name == "regmean"
        fisher = GRAM.model_copy(update={"statistic": "fisher", "count": None})
        assert read_steps(_merging("fisher", fisher), space)[0].name == "fisher"
    themselves = GRAM.model_copy(update={"statistic": None})
    assert read_steps(_merging("regmean_plus_plus", themselves), "weight")[0].name == "regmean_plus_plus"


@pytest.mark.parametrize(
    ("settings", "space", "message"),
    [
        (
            _merging("regmean"),
            "weight",
            "merging method regmean: needs images of every task; set images to { statistic: gram, split: train, "
            "count: 256, seed: 0 }",
        ),
        (
            _merging("fisher", GRAM),
            "weight",
            "merging method fisher: needs images of every task; set images to { statist",
        ),
        (
            _merging("regmean_plus_plus", GRAM),
            "weight",
            "merging method regmean_plus_plus: needs images of every task; set images to { statistic: null, split: ",
        ),
        (_merging("ties", GRAM), "weight", "merging method ties: looks at no images; set images to null"),
        (
            _merging("learned_coefficients", GRAM.model_copy(update={"statistic": None})),
            "tangent",
            "merging method learned_coefficients: moves the encoder's weights; set evaluated_in to weight, or choose ",
        ),
        (_merging("regmean_plus"), "weight", "unknown merging method 'regmean_plus'; choose from average, "),
    ],
)
def test_other_images_are_refused(settings: MergingSettings, space: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read_steps(settings, space)
    assert str(caught.value).startswith(message)
