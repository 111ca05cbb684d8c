"""Angles between task vectors, and responses of layers to updates, in float64 against a forward pass by hand."""

import math
from collections.abc import Callable

import numpy as np
import open_clip.transformer as oc
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from pipeline.analysis.geometry import cosine_matrix, input_moments, orthogonality_frame, responses
from pipeline.editing import TaskVector
from pipeline.errors import UserError
from pipeline.images import LabelledImages
from pipeline.models.checkpoints import Provenance
from pipeline.models.encoders import ImageEncoder
from pipeline.models.registry import ModelDefinition

EncoderFactory = Callable[[], ImageEncoder]
ImageFactory = Callable[..., LabelledImages]
VectorFactory = Callable[..., TaskVector]

CPU = torch.device("cpu")
WIDTH = 6


@pytest.fixture
def encoder(make_encoder: EncoderFactory) -> ImageEncoder:
    """The tiny encoder in float64, with biases and norms that are not at their initial 0 and 1."""
    double_encoder = make_encoder().double()
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in double_encoder.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=random, dtype=torch.double))
    return double_encoder


@pytest.fixture
def images(make_images: ImageFactory) -> Tensor:
    """Seven images."""
    return torch.from_numpy(make_images(7).images)


def attend_by_hand(attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
    """The concatenated heads, one head after the other."""
    q, k, v = (
        x @ weight.T + bias
        for weight, bias in zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
    )
    heads = []
    for head in torch.arange(attention.embed_dim).chunk(attention.num_heads):
        scores = q[..., head] @ k[..., head].mT / math.sqrt(len(head))
        heads.append(scores.softmax(dim=-1) @ v[..., head])
    return torch.cat(heads, dim=-1)


@torch.no_grad()
def inputs_by_hand(encoder: ImageEncoder, images: Tensor) -> dict[str, Tensor]:
    """Return the inputs of every linear layer, block by block; the result is checked against the encoder's own."""
    visual = encoder.visual
    assert isinstance(visual, oc.VisionTransformer)
    assert visual.proj is not None
    inputs: dict[str, Tensor] = {}
    x = visual._embeds(encoder.normalise(images))
    for index, block in enumerate(visual.transformer.resblocks):
        assert isinstance(block, oc.ResidualAttentionBlock)
        prefix = f"transformer.resblocks.{index}."
        normed = inputs[f"{prefix}attn.in_proj_weight"] = block.ln_1(x)
        heads = inputs[f"{prefix}attn.out_proj.weight"] = attend_by_hand(block.attn, normed)
        attended = heads @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
        torch.testing.assert_close(attended, block.attn(normed, normed, normed)[0], rtol=1e-11, atol=1e-11)
        x = x + attended
        c_fc, activation, c_proj = block.mlp
        normed = inputs[f"{prefix}mlp.c_fc.weight"] = block.ln_2(x)
        active = inputs[f"{prefix}mlp.c_proj.weight"] = activation(c_fc(normed))
        x = x + c_proj(active)
    torch.testing.assert_close(visual._pool(x)[0] @ visual.proj, encoder(images), rtol=1e-11, atol=1e-11)
    return inputs


def test_moments_are_those_of_recorded_inputs(encoder: ImageEncoder, images: Tensor) -> None:
    moments = input_moments(encoder, images.split(3), CPU)
    inputs = inputs_by_hand(encoder, images)
    assert moments.keys() == inputs.keys()
    for name, x in inputs.items():
        expected = torch.einsum("ntw,ntv->wv", x, x) / (x.shape[0] * x.shape[1])
        torch.testing.assert_close(moments[name], expected, rtol=1e-10, atol=1e-10)


def test_moments_are_named_and_shaped_as_the_weights(encoder: ImageEncoder, images: Tensor) -> None:
    for name, moment in input_moments(encoder, images.split(7), CPU).items():
        width = encoder.visual.get_parameter(name).shape[1]
        assert moment.shape == (width, width)


def test_moments_of_a_float32_encoder_are_float64(make_encoder: EncoderFactory, images: Tensor) -> None:
    moments = input_moments(make_encoder(), images.split(4), CPU)
    expected = input_moments(make_encoder().double(), images.split(4), CPU)
    for name, moment in moments.items():
        assert moment.dtype == torch.double
        assert not moment.requires_grad
        torch.testing.assert_close(moment, expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batch_size_does_not_matter(encoder: ImageEncoder, images: Tensor, batch_size: int) -> None:
    expected = input_moments(encoder, images.split(7), CPU)
    for name, moment in input_moments(encoder, images.split(batch_size), CPU).items():
        torch.testing.assert_close(moment, expected[name], rtol=1e-11, atol=1e-11)


def test_attention_between_different_sequences_is_left_out(tiny_definition: ModelDefinition, images: Tensor) -> None:
    visual = oc.VisionTransformer(
        image_size=32, patch_size=16, width=8, layers=1, heads=2, mlp_ratio=2.0, output_dim=8,
        attentional_pool=True, attn_pooler_heads=2, attn_pooler_queries=3,
    )  # fmt: skip
    moments = input_moments(ImageEncoder(visual, tiny_definition, "0" * 64), images.split(7), CPU)
    layers = ("attn.in_proj_weight", "attn.out_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
    assert moments.keys() == {f"transformer.resblocks.0.{layer}" for layer in layers}


def hook_count(encoder: ImageEncoder) -> int:
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in encoder.modules())


def test_hooks_are_removed(encoder: ImageEncoder, images: Tensor) -> None:
    input_moments(encoder, images.split(7), CPU)
    assert hook_count(encoder) == 0


def test_hooks_are_removed_after_an_exception(encoder: ImageEncoder, images: Tensor) -> None:
    def fail(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        raise RuntimeError("out of memory")

    last = encoder.visual.get_submodule("transformer.resblocks.1.mlp")
    with last.register_forward_pre_hook(fail), pytest.raises(RuntimeError, match="out of memory"):
        input_moments(encoder, images.split(7), CPU)
    assert hook_count(encoder) == 0


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def moment_of(x: Tensor) -> Tensor:
    return x.T @ x / len(x)


def response_to(update: Tensor, x: Tensor, provenance: Provenance) -> float:
    """The response of one layer with inputs ``x`` to one update."""
    return float(responses([TaskVector({"w": update}, provenance)], {"w": moment_of(x)})["w"][0])


def test_responses_are_those_of_explicit_products(
    encoder: ImageEncoder, images: Tensor, make_vector: VectorFactory
) -> None:
    vectors = [make_vector(seed) for seed in range(3)]
    rows = responses(vectors, input_moments(encoder, images.split(3), CPU))
    inputs = inputs_by_hand(encoder, images)
    assert rows.keys() == inputs.keys()
    for name, x in inputs.items():
        updates = [vector.tensors[name].double() for vector in vectors]
        expected = [float((x @ u.T).norm() / (u.norm() * x.norm())) for u in updates]
        np.testing.assert_allclose(rows[name], expected, rtol=1e-9)
        assert all(0 < r < 1 for r in expected)


def test_no_response_to_an_update_orthogonal_to_all_inputs(provenance: Provenance) -> None:
    x, update = random(20, WIDTH), random(5, WIDTH, seed=1)
    x[:, 3:], update[:, :3] = 0, 0
    assert response_to(update, x, provenance) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_no_response_in_any_basis(seed: int, provenance: Provenance) -> None:
    basis = torch.linalg.qr(random(WIDTH, WIDTH, seed=seed)).Q
    x, update = random(20, 3) @ basis[:3], random(5, 3, seed=1) @ basis[3:]
    assert 0 <= response_to(update, x, provenance) < 1e-7


@pytest.mark.parametrize("seed", range(5))
def test_full_response_if_inputs_and_rows_lie_on_one_line(seed: int, provenance: Provenance) -> None:
    direction = random(1, WIDTH, seed=seed)
    response = response_to(random(5, 1, seed=1) @ direction, random(20, 1) @ direction, provenance)
    assert response == pytest.approx(1, rel=1e-12)
    assert response <= 1


def test_mean_square_response_to_a_random_update_is_one_over_the_width(provenance: Provenance) -> None:
    # Over an orthonormal basis of all updates it is the same as over the sphere.
    basis = torch.eye(4 * WIDTH, dtype=torch.double).reshape(-1, 4, WIDTH)
    x = random(20, WIDTH) * torch.arange(1, WIDTH + 1)
    squares = [response_to(update, x, provenance) ** 2 for update in basis]
    assert np.mean(squares) == pytest.approx(1 / WIDTH, rel=1e-12)


def test_lengths_of_updates_and_inputs_do_not_matter(provenance: Provenance) -> None:
    x, update = random(20, WIDTH), random(5, WIDTH, seed=1)
    expected = response_to(update, x, provenance)
    assert response_to(-3 * update, 1e3 * x, provenance) == pytest.approx(expected, rel=1e-12)


def test_nothing_moves_where_a_vector_or_the_inputs_are_zero(provenance: Provenance) -> None:
    x, update = random(20, WIDTH), random(5, WIDTH, seed=1)
    vectors = [TaskVector({"w": update}, provenance), TaskVector({"w": 0 * update}, provenance)]
    vectors.append(TaskVector({"bias": torch.ones(5)}, provenance))
    rows = responses(vectors, {"w": moment_of(x), "still": moment_of(x)})
    assert rows.keys() == {"w"}
    assert rows["w"][0] > 0
    assert rows["w"][1:].tolist() == [0, 0]
    assert response_to(update, 0 * x, provenance) == 0


def test_numbers_that_are_none_do_not_pass_for_orthogonal(provenance: Provenance) -> None:
    x = random(20, WIDTH)
    x[0, 0] = torch.nan
    assert math.isnan(response_to(random(5, WIDTH, seed=1), x, provenance))


def test_the_table_has_a_row_for_every_layer_vector_and_task(make_vector: VectorFactory) -> None:
    names = [f"transformer.resblocks.{index}.attn.in_proj_weight" for index in (0, 1)]
    vectors = {"digits": make_vector(0), "signs": make_vector(1)}
    moments = {
        data: {name: moment_of(random(50, 32, seed=seed + index)) for index, name in enumerate(names)}
        for seed, data in ((0, "digits"), (10, "signs"), (20, "pets"))
    }
    frame = orthogonality_frame(vectors, (item for item in moments.items()))
    assert list(frame.columns) == ["layer", "vector", "data", "response"]
    assert len(frame) == 2 * 2 * 3
    assert pd.api.types.is_float_dtype(frame["response"])
    assert not frame.duplicated(["layer", "vector", "data"]).any()
    for row in frame.to_dict("records"):
        expected = responses([vectors[row["vector"]]], moments[row["data"]])
        assert row["response"] == expected[row["layer"]][0]


def flat(vector: TaskVector, base: dict[str, Tensor]) -> np.ndarray:
    """All tensors of θ₀'s names in one float64 array; those that a vector lacks are zero."""
    parts = [vector.tensors.get(name, torch.zeros_like(tensor)) for name, tensor in base.items()]
    return np.concatenate([part.double().numpy().reshape(-1) for part in parts])


def test_cosines_are_those_of_flattened_vectors(make_vector: VectorFactory, base: dict[str, Tensor]) -> None:
    common = make_vector(9)
    vectors = [make_vector(0), make_vector(1) + common, make_vector(2) - common, make_vector(3, part="attn") + common]
    vectors.append(make_vector(4, scale=1e-6, part="mlp"))
    cosines = cosine_matrix(vectors)
    flattened = np.stack([flat(vector, base) for vector in vectors])
    expected = flattened @ flattened.T / np.outer(*[np.linalg.norm(flattened, axis=1)] * 2)
    np.testing.assert_allclose(cosines, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(cosines, cosines.T)
    assert np.diag(cosines).tolist() == [1] * 5


def test_a_zero_vector_has_no_angle(make_vector: VectorFactory) -> None:
    cosines = cosine_matrix([make_vector(0), 0.0 * make_vector(1)])
    assert cosines.tolist() == [[1, 0], [0, 0]]


def test_vectors_of_different_base_have_no_angle(make_vector: VectorFactory) -> None:
    vector = make_vector(0)
    other = TaskVector(vector.tensors, Provenance("tiny", ("signs",), "standard", "weight", "b" * 64, 0, "c" * 64))
    with pytest.raises(UserError, match="different θ₀"):
        cosine_matrix([vector, other])


def test_only_the_last_of_several_vectors_has_another_base(make_vector: VectorFactory) -> None:
    """Every pair is checked, also those that share no tensor."""
    last = make_vector(2, part="mlp")
    other = TaskVector(last.tensors, Provenance("tiny", ("signs",), "standard", "weight", "b" * 64, 0, "c" * 64))
    with pytest.raises(UserError, match="different θ₀"):
        cosine_matrix([make_vector(0, part="attn"), make_vector(1, part="attn"), other])
