"""Methods that run the encoder on images: learned coefficients, and RegMean++ with inputs of the merged blocks."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from pipeline.editing import TaskVector
from pipeline.errors import UserError
from pipeline.merging import Step, TaskImages, merge, merge_with_images, merging_with_images
from pipeline.merging.learned_coefficients import Mixture, entropy
from pipeline.models.encoders import ImageEncoder
from pipeline.models.heads import Head
from tests.conftest import EncoderFactory, ImageFactory
from tests.merging.conftest import TaskVectorsFactory, total

ImagesByTask = dict[str, TaskImages]
LEARNED = ["learned_coefficients", "learned_coefficients_labelled"]
SHORT = {"steps": 3, "batch_size": 4}


@pytest.fixture
def encoder(make_encoder: EncoderFactory) -> ImageEncoder:
    return make_encoder()


@pytest.fixture
def vectors(make_vectors: TaskVectorsFactory, encoder: ImageEncoder) -> list[TaskVector]:
    """Task vectors of the encoder."""
    task_vectors = (0.2 * v for v in make_vectors())
    return [TaskVector(v.tensors, replace(v.provenance, base_sha256=encoder.sha256)) for v in task_vectors]


@pytest.fixture
def images(make_images: ImageFactory, make_head: Callable[..., Head]) -> ImagesByTask:
    """Twelve images of three classes for each of three tasks."""
    images_by_task: ImagesByTask = {}
    for seed, task in enumerate("abc"):
        split = make_images(12, classes=3, seed=seed)
        images_by_task[task] = TaskImages(split.images, split.labels, make_head(3, seed))
    return images_by_task


def state(encoder: ImageEncoder) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in encoder.visual.state_dict().items()}


@pytest.mark.parametrize("objective", [entropy, torch.nn.functional.cross_entropy])
def test_the_gradient_is_that_of_finite_differences(
    objective: Callable[..., Tensor], encoder: ImageEncoder, vectors: list[TaskVector], images: ImagesByTask
) -> None:
    encoder.double()
    names = sorted(vectors[0].tensors)
    moved = [{name: vector.tensors[name].double() for name in names} for vector in vectors]
    mixture = Mixture(encoder, moved, {name: int("resblocks.1" in name) for name in names})
    at = torch.tensor([[0.3, 0.1], [0.2, 0.4], [0.5, 0.3]], dtype=torch.float64)
    batches = [(torch.from_numpy(task.images[:4]), torch.from_numpy(task.labels[:4])) for task in images.values()]

    def loss(coefficients: Tensor) -> float:
        """By the definition, once more."""
        whole = 0.0
        for (pictures, labels), task in zip(batches, images.values(), strict=True):
            weights = {n: p.detach().clone() for n, p in encoder.visual.named_parameters()}
            for t, vector in enumerate(moved):
                for name, tensor in vector.items():
                    weights[name] += coefficients[t, int("resblocks.1" in name)] * tensor
            with torch.no_grad():
                x = (pictures.double() / 255 - encoder.mean) / encoder.std
                embedded = functional_call(encoder.visual, weights, (x,))
                logits = embedded / embedded.norm(dim=1, keepdim=True) @ task.head.weight.double().T
                p = logits.softmax(1)
                chosen = p[range(len(labels)), labels].log() if objective is not entropy else (p * p.log()).sum(1)
                whole -= float(chosen.mean())
        return whole

    value, gradient = mixture.loss_and_gradient(at, batches, list(images.values()), objective)
    assert value == pytest.approx(loss(at), rel=1e-6)
    for t in range(3):
        for group in range(2):
            step = torch.zeros_like(at)
            step[t, group] = 1e-4
            assert float(gradient[t, group]) == pytest.approx((loss(at + step) - loss(at - step)) / 2e-4, rel=1e-4)


@pytest.mark.parametrize(("per", "groups"), [("task", 1), ("block", 3), ("tensor", None)])
def test_coefficients_are_per_task_and_group(
    per: str, groups: int | None, encoder: ImageEncoder, vectors: list[TaskVector], images: ImagesByTask
) -> None:
    before = state(encoder)
    merged = merge_with_images(vectors, encoder, images, Step("learned_coefficients", {"per": per, **SHORT}))
    table = merged.record["coefficients"]
    assert list(table) == ["a", "b", "c"]
    for vector, result in zip(vectors, merged.vectors, strict=True):
        own = table[vector.provenance.tasks[0]]
        assert len(own) == (groups or len(vector.tensors))
        assert result.provenance == vector.provenance
        for name, tensor in vector.tensors.items():
            block = f"block {name.split('resblocks.')[1][0]}" if "resblocks." in name else "outside"
            factor = own[{"task": "all", "block": block, "tensor": name}[per]]
            torch.testing.assert_close(result.tensors[name], factor * tensor)
            assert factor != 0.3
    assert all(tensor.equal(before[name]) for name, tensor in encoder.visual.state_dict().items())


def test_no_step_is_task_arithmetic(encoder: ImageEncoder, vectors: list[TaskVector], images: ImagesByTask) -> None:
    merged = merge_with_images(vectors, encoder, images, Step("learned_coefficients", {"steps": 0, "initial": 0.4}))
    for name, tensor in total(merged.vectors).items():
        torch.testing.assert_close(tensor, 0.4 * total(vectors)[name], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", LEARNED)
def test_learning_lowers_the_loss_and_repeats(
    method: str, encoder: ImageEncoder, vectors: list[TaskVector], images: ImagesByTask
) -> None:
    step = Step(method, {"steps": 30, "lr": 0.02, "batch_size": 12})  # whole batches: the loss itself goes down
    one, other = (merge_with_images(vectors, encoder, images, step) for _ in range(2))
    assert one.record["loss"]["last"] < one.record["loss"]["first"]
    assert one.record == other.record
    assert all(tensor.equal(other.vectors[2].tensors[name]) for name, tensor in one.vectors[2].tensors.items())
    reversed_ = merge_with_images(vectors[::-1], encoder, images, step).record["loss"]
    assert reversed_["last"] == pytest.approx(one.record["loss"]["last"], rel=1e-3)


def test_entropy_does_not_look_at_labels(
    encoder: ImageEncoder, vectors: list[TaskVector], images: ImagesByTask
) -> None:
    def coefficients(method: str, given: ImagesByTask) -> dict[str, object]:
        return merge_with_images(vectors, encoder, given, Step(method, SHORT)).record["coefficients"]

    wrong = {task: replace(given, labels=2 - given.labels) for task, given in images.items()}
    assert coefficients(LEARNED[0], images) == coefficients(LEARNED[0], wrong)
    assert coefficients(LEARNED[1], images) != coefficients(LEARNED[1], wrong)
    assert [merging_with_images.find(name).sees for name in LEARNED] == [
        "other tasks' unlabelled images",
        "labels of all",
    ]


def test_regmean_plus_plus_takes_inputs_from_the_merged_blocks(
    encoder: ImageEncoder, vectors: list[TaskVector], images: ImagesByTask
) -> None:
    """Block by block as its authors have it, with the blocks called one by one and hooks on their linear layers."""
    before = state(encoder)
    merged = total(merge_with_images(vectors, encoder, images, Step("regmean_plus_plus", {"count": 12})).vectors)
    assert all(tensor.equal(before[name]) for name, tensor in encoder.visual.state_dict().items())
    expected = total(merge(vectors, Step("average")))
    inputs: list[Tensor] = []
    layer = "transformer.resblocks.1.mlp.c_fc"
    hook = encoder.visual.get_submodule(layer).register_forward_hook(lambda _m, x, _y: inputs.append(x[0].detach()))
    grams = []
    for vector in vectors:
        own = {n: vector.tensors[n].double() if "resblocks.1." in n else merged[n] for n in merged}
        encoder.visual.load_state_dict({n: t + own[n].float() if n in own else t for n, t in before.items()})
        inputs.clear()
        encoder(torch.from_numpy(images[vector.provenance.tasks[0]].images)).sum().backward()
        x = inputs[0].flatten(0, 1).double()
        gram = x.T @ x / len(x)
        grams.append(0.95 * gram + 0.05 * gram.diag().diag())
    hook.remove()
    products = sum(v.tensors[f"{layer}.weight"].double() @ g for v, g in zip(vectors, grams, strict=True))
    expected[f"{layer}.weight"] = products @ torch.linalg.pinv(sum(grams), hermitian=True)
    for name in (f"{layer}.weight", f"{layer}.bias", "conv1.weight", "proj"):
        torch.testing.assert_close(merged[name], expected[name], rtol=1e-3, atol=1e-5)


def test_regmean_plus_plus_of_equal_vectors_is_that_vector(
    encoder: ImageEncoder, vectors: list[TaskVector], images: ImagesByTask
) -> None:
    equal = [TaskVector(vectors[0].tensors, v.provenance) for v in vectors]
    merged = total(merge_with_images(equal, encoder, images, Step("regmean_plus_plus")).vectors)
    inputs = encoder.visual.get_parameter("transformer.resblocks.0.mlp.c_fc.weight").shape[1]
    assert inputs < 12 * 5  # enough tokens for Gram matrices of full rank
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, vectors[0].tensors[name].double(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("tise", {}, "unknown merging method 'tise'; choose from learned_coefficients, learned_coefficients_labelled"),
        ("learned_coefficients", {"per": "layer"}, "merging method learned_coefficients: option per is 'layer' but"),
        (
            "learned_coefficients",
            {"lr": 0},
            "merging method learned_coefficients: option lr is 0 but should be greater",
        ),
        ("regmean_plus_plus", {"images": 1}, "merging method regmean_plus_plus: unknown option 'images'; choose from"),
    ],
)
def test_wrong_options_are_one_line(
    method: str,
    options: dict[str, object],
    message: str,
    encoder: ImageEncoder,
    vectors: list[TaskVector],
    images: ImagesByTask,
) -> None:
    with pytest.raises(UserError) as error:
        merge_with_images(vectors, encoder, images, Step(method, options))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", [*LEARNED, "regmean_plus_plus"])
def test_what_does_not_fit_is_one_line(
    method: str, encoder: ImageEncoder, vectors: list[TaskVector], images: ImagesByTask
) -> None:
    start = f"merging method {method}: "
    elsewhere = [TaskVector(v.tensors, replace(v.provenance, base_sha256="f" * 64)) for v in vectors]
    nan = TaskVector({**vectors[0].tensors, "proj": vectors[0].tensors["proj"] * float("nan")}, vectors[0].provenance)
    none = replace(images["b"], images=images["b"].images[:0], labels=images["b"].labels[:0])
    for given, seen, message in [
        (vectors, {"a": images["a"]}, start + "has no images of task 'b'; give it some of val"),
        (vectors, {**images, "b": none}, start + "task 'b' has no images; give at least one"),
        (elsewhere, images, start + "task vector tiny/standard/a starts from another θ₀ than the encoder"),
        (vectors[:1], images, "merging takes two or more task vectors, not 1; name more tasks"),
        (
            [nan, *vectors[1:]],
            images,
            "task vector tiny/standard/a: tensor 'proj' holds NaN or infinity; train it again",
        ),
    ]:
        with pytest.raises(UserError) as error:
            merge_with_images(given, encoder, seen, Step(method))
        assert str(error.value) == message


def test_a_stream_refuses_methods_that_need_the_encoder(make_vectors: TaskVectorsFactory) -> None:
    with pytest.raises(UserError, match="unknown merging method 'regmean_plus_plus'"):
        merge(make_vectors(), Step("regmean_plus_plus"))


def test_samples_are_seeded(images: ImagesByTask) -> None:
    given = images["a"]
    assert given.sample(5, 0).equal(given.sample(5, 0))
    assert not given.sample(5, 0).equal(given.sample(5, 1))
    assert len(given.sample(100, 0)) == 12
    assert np.isin(given.sample(5, 0).numpy(), given.images).all()
