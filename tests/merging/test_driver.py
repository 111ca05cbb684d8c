"""Merging files to files, image statistics, methods from outside, and what is refused."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline.config import Extension
from pipeline.editing import TaskVector, read_task_vector, write_task_vector
from pipeline.errors import UserError
from pipeline.io.arrays import write_arrays
from pipeline.io.files import file_sha256
from pipeline.io.tensor_files import TensorFile
from pipeline.merging import Step, merge, merge_files, merge_sum, merge_vectors, merging
from pipeline.merging.statistics import ImageStatistics, fisher_diagonals, gram_matrices, write_statistics
from pipeline.models.checkpoints import to_metadata
from pipeline.models.heads import Head
from pipeline.paradigms.extensions import load_extension
from tests.conftest import EncoderFactory, ImageFactory
from tests.merging.conftest import TaskVectorsFactory, total

Writer = Callable[[list[TaskVector]], Mapping[str, Path]]


@pytest.mark.parametrize("method", ["sum", "ties", "dare", "pcb", "iso_cts"])
@pytest.mark.parametrize("part", ["", "attn"])
def test_merging_files_equals_merging_in_memory(
    method: str, part: str, make_vectors: TaskVectorsFactory, write_vectors: Writer, tmp_path: Path
) -> None:
    vectors = make_vectors(part=part)
    modifiers = [Step("lines")]
    merge_vectors(write_vectors(vectors), tmp_path / "merged", "other", Step(method), modifiers)
    for vector in merge(vectors, Step(method), modifiers):
        path = tmp_path / "merged" / f"{vector.provenance.tasks[0]}.safetensors"
        written = read_task_vector(path)
        assert written.provenance == replace(vector.provenance, recipe="other", code=written.provenance.code)
        assert all(written.tensors[name].equal(tensor) for name, tensor in vector.tensors.items())
        again = tmp_path / "again.safetensors"
        write_task_vector(again, written)
        assert again.read_bytes() == path.read_bytes()


def test_the_sum_of_files_is_that_of_vectors_in_memory(
    make_vectors: TaskVectorsFactory, write_vectors: Writer, tmp_path: Path
) -> None:
    vectors, modifiers = make_vectors(part="attn"), [Step("lines")]
    paths = write_vectors(vectors)
    merged, record = merge_files(paths, Step("ties"), modifiers)
    alone = merge_sum(vectors, Step("ties"), modifiers=modifiers)
    assert merged.provenance == alone.provenance
    assert all(merged.tensors[name].equal(tensor) for name, tensor in alone.tensors.items())
    assert record == merge_vectors(paths, tmp_path / "merged", "other", Step("ties"), modifiers)


def test_the_record_says_how_it_was_made(
    make_vectors: TaskVectorsFactory, write_vectors: Writer, tmp_path: Path
) -> None:
    paths = write_vectors(make_vectors())
    method, modifiers = Step("iso_c", {"in_proj": "split"}), [Step("svc")]
    record = merge_vectors(paths, tmp_path / "merged", "other", method, modifiers)
    assert record == {
        "sources": {task: TensorFile(path).sha256 for task, path in paths.items()},
        "statistics": {},
        "steps": [
            {
                "kind": "merging method",
                "name": "iso_c",
                "options": {"matrices": "all", "in_proj": "split", "others": "average"},
                "sees": "own task",
            },
            {
                "kind": "merging modifier",
                "name": "svc",
                "options": {"floor": 0.1, "matrices": "all", "in_proj": "fused", "others": "sum"},
                "sees": "own task",
            },
        ],
    }


def test_nothing_is_left_when_a_tensor_is_not_finite(
    make_vectors: TaskVectorsFactory, write_vectors: Writer, tmp_path: Path
) -> None:
    vectors = make_vectors()
    paths = write_vectors(vectors)
    vectors[1].tensors["proj"][0, 0] = float("inf")
    arrays = {name: tensor.numpy() for name, tensor in vectors[1].tensors.items()}
    write_arrays(paths["b"], arrays, to_metadata(vectors[1].provenance))  # which write_task_vector refuses
    for method in ("sum", "average", "ties"):  # the first two are added up without a look at each
        for merge_alone in (partial(merge_files, paths), partial(merge_sum, vectors)):
            with pytest.raises(UserError, match=r"tiny/standard/b: tensor 'proj' holds NaN or infinity"):
                merge_alone(Step(method))
    with pytest.raises(UserError, match=r"tiny/standard/b: tensor 'proj' holds NaN or infinity"):
        merge_vectors(paths, tmp_path / "merged", "other", Step("sum"))
    assert not list((tmp_path / "merged").iterdir())


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("tise", {}, "unknown merging method 'tise'; choose from average, breadcrumbs"),
        ("ties", {"kep": 0.1}, "merging method ties: unknown option 'kep'; choose from keep"),
        ("sum", {"keep": 0.1}, "merging method sum: unknown option 'keep'; choose from none: it has no options"),
        ("ties", {"keep": "much"}, "merging method ties: option keep is 'much' but should be a valid number"),
        ("ties", {"keep": True}, "merging method ties: option keep is True but should be a valid number"),
        ("ties", {"keep": 0}, "merging method ties: option keep is 0 but should be greater than 0"),
        ("ties", {"keep": float("nan")}, "merging method ties: option keep is nan but should be a finite number"),
        ("dare", {"seed": 0.5}, "merging method dare: option seed is 0.5 but should be a valid integer"),
        ("wudi", {"others": "mean"}, "merging method wudi: option others is 'mean' but should be 'average', 'sum' or"),
        ("fisher", {}, "merging method fisher: has no statistics of the images of 'a'; compute them"),
        ("regmean", {}, "merging method regmean: has no statistics of the images of 'a'; compute them"),
    ],
)
def test_wrong_methods_and_options_are_one_line(
    method: str, options: dict[str, object], message: str, make_vectors: TaskVectorsFactory
) -> None:
    with pytest.raises(UserError) as error:
        merge(make_vectors(), Step(method, options))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_vectors_that_do_not_fit_are_refused(make_vectors: TaskVectorsFactory) -> None:
    first, second = make_vectors(2)
    elsewhere = TaskVector(second.tensors, replace(second.provenance, base_sha256="f" * 64))
    wider = TaskVector({**second.tensors, "proj": torch.zeros(32, 17)}, second.provenance)
    for vectors, message in [
        ([], "merging takes two or more task vectors, not 0; name more tasks"),
        ([first], "merging takes two or more task vectors, not 1; name more tasks"),
        ([first, first], "merging: two task vectors are of task 'a'; leave one out"),
        ([first, elsewhere], "task vectors of different θ₀ cannot be merged: task vector tiny/standard/a starts from"),
        ([first, wider], "task vector tiny/standard/b: tensor 'proj' differs in shape from that of another task"),
    ]:
        with pytest.raises(UserError) as error:
            merge(vectors, Step("sum"))
        assert str(error.value).startswith(message)


@pytest.mark.parametrize("damage", ["truncated", "changed", "foreign", "missing"])
def test_broken_files_are_refused(damage: str, make_vectors: TaskVectorsFactory, write_vectors: Writer) -> None:
    paths = write_vectors(make_vectors())
    content = paths["b"].read_bytes()
    if damage == "truncated":
        paths["b"].write_bytes(content[:-10])
    elif damage == "changed":
        paths["b"].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "foreign":
        write_arrays(paths["b"], {"x": torch.zeros(3).numpy()}, {"kind": "gram"})
    else:
        paths["b"].unlink()
    with pytest.raises(UserError, match=f"^{paths['b']}: ") as error:
        merge_vectors(paths, paths["b"].parent / "merged", "other", Step("sum"))
    assert "\n" not in str(error.value)


def test_a_method_from_outside(make_vectors: TaskVectorsFactory, tmp_path: Path) -> None:
    extension = tmp_path / "strongest.py"
    extension.write_text(
        '''from typing import Annotated

import torch
from pydantic import Field

from pipeline.merging import Context, Deltas, merging


@merging("strongest")
def strongest(deltas: Deltas, context: Context, *, power: Annotated[float, Field(ge=0)] = 1.0) -> Deltas:
    """Keep the largest entry of all tasks."""
    return deltas * (deltas.abs() == deltas.abs().amax(0)) * power
'''
    )
    load_extension(Extension(path=str(extension), sha256=file_sha256(extension)))
    vectors = make_vectors()
    merged = total(merge(vectors, Step("strongest", {"power": 2.0})))["proj"]
    stack = torch.stack([v.tensors["proj"].double() for v in vectors])
    assert merged.equal(2 * stack.gather(0, stack.abs().argmax(0, keepdim=True))[0])
    with pytest.raises(UserError, match="strongest: option power is -1 but should be greater than or equal to 0"):
        merge(vectors, Step("strongest", {"power": -1}))


def test_tauflows_own_methods_cannot_be_replaced() -> None:
    with pytest.raises(UserError, match="merging method 'ties' is already defined by Tauflow; choose another name"):
        merging("ties")(lambda deltas, context: deltas)


def _statistics(
    kind: str, vectors: list[TaskVector], make_encoder: EncoderFactory, make_images: ImageFactory, head: Head
) -> dict[str, ImageStatistics]:
    collected = {}
    for seed, vector in enumerate(vectors):
        encoder = make_encoder()
        with torch.no_grad():
            for name, tensor in vector.tensors.items():
                encoder.visual.get_parameter(name).add_(0.1 * tensor)
        batches = torch.from_numpy(make_images(6, seed=seed).images).split(4)
        sha256 = vector.provenance.base_sha256
        grams = gram_matrices(encoder, batches, sha256) if kind == "gram" else None
        collected[vector.provenance.tasks[0]] = grams or fisher_diagonals(encoder, head.logits, batches, sha256)
    return collected


@pytest.mark.parametrize(("method", "kind"), [("regmean", "gram"), ("fisher", "fisher")])
def test_methods_with_images_follow_their_definition(
    method: str,
    kind: str,
    make_vectors: TaskVectorsFactory,
    make_encoder: EncoderFactory,
    make_images: ImageFactory,
    make_head: Callable[..., Head],
    write_vectors: Writer,
    tmp_path: Path,
) -> None:
    vectors = make_vectors()
    statistics = _statistics(kind, vectors, make_encoder, make_images, make_head(3))
    for task, statistic in statistics.items():
        write_statistics(tmp_path / f"{task}.safetensors", statistic)
    paths = {task: tmp_path / f"{task}.safetensors" for task in statistics}
    merge_vectors(write_vectors(vectors), tmp_path / "merged", "other", Step(method), statistics=paths)
    merged = total([read_task_vector(tmp_path / "merged" / f"{task}.safetensors") for task in "abc"])
    norms = [sum((s.tensors[n].astype(float) ** 2).sum() for n in s.tensors) ** 0.5 for s in statistics.values()]
    for name, result in merged.items():
        deltas = [v.tensors[name].double() for v in vectors]
        known = [torch.from_numpy(s.tensors[name]).double() for s in statistics.values() if name in s.tensors]
        if not known:
            expected = sum(deltas) / 3
        elif method == "regmean":
            known = [0.95 * g + 0.05 * g.diag().diag() for g in known]
            expected = sum(d @ g for d, g in zip(deltas, known, strict=True)) @ torch.linalg.inv(sum(known))
        else:
            known = [(f + 1e-6) / (norm + 1e-6) for f, norm in zip(known, norms, strict=True)]
            expected = sum(f * d for f, d in zip(known, deltas, strict=True)) / sum(known)
        torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-5)
    wrong = {task: replace(statistic, base_sha256="f" * 64) for task, statistic in statistics.items()}
    with pytest.raises(UserError, match="the statistics of 'a' belong to another θ₀; compute them again"):
        merge(vectors, Step(method), statistics=wrong)
    for task, path in paths.items():
        write_statistics(path, replace(statistics[task], origin={"vector_sha256": "f" * 64}))
    with pytest.raises(UserError, match="the statistics of 'a' are of another task vector; compute them again"):
        merge_vectors(write_vectors(vectors), tmp_path / "again", "other", Step(method), statistics=paths)
    other = {"regmean": "fisher", "fisher": "regmean"}[method]
    with pytest.raises(UserError, match=f"merging method {other}: needs .* but 'a' has {kind}"):
        merge(vectors, Step(other), statistics=statistics)


def test_gram_matrices_are_of_every_linear_layer(make_encoder: EncoderFactory, make_images: ImageFactory) -> None:
    encoder = make_encoder()
    images = torch.from_numpy(make_images(5).images)
    matrices = gram_matrices(encoder, images.split(2), "f" * 64)
    layers = ("attn.in_proj_weight", "attn.out_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
    assert sorted(matrices.tensors) == sorted(f"transformer.resblocks.{i}.{layer}" for i in (0, 1) for layer in layers)
    inputs: list[Tensor] = []
    layer = encoder.visual.get_submodule("transformer.resblocks.1.mlp.c_fc")
    assert isinstance(layer, nn.Linear)
    layer.register_forward_hook(lambda _module, args, _output: inputs.append(args[0].detach().flatten(0, 1)))
    encoder(images)
    expected = inputs[0].T @ inputs[0] / len(inputs[0])
    torch.testing.assert_close(torch.from_numpy(matrices.tensors["transformer.resblocks.1.mlp.c_fc.weight"]), expected)
    # torch's attention calls no module for its output projection: y = W x + b is solved for E[x xᵀ] instead.
    name = "transformer.resblocks.0.attn.out_proj.weight"
    outputs: list[Tensor] = []
    attention = encoder.visual.get_submodule("transformer.resblocks.0.attn")
    attention.register_forward_hook(lambda _module, _args, output: outputs.append(output[0].detach().flatten(0, 1)))
    encoder(images)
    weight, bias = attention.get_parameter("out_proj.weight"), attention.get_parameter("out_proj.bias")
    solved = torch.linalg.solve(weight, (outputs[0] - bias).T).T.detach()
    expected = solved.T @ solved / len(solved)
    torch.testing.assert_close(torch.from_numpy(matrices.tensors[name]), expected, rtol=1e-3, atol=1e-4)


def test_statistics_need_images(make_encoder: EncoderFactory) -> None:
    with pytest.raises(UserError, match="statistics of images: no images; give at least one"):
        gram_matrices(make_encoder(), [], "f" * 64)


def test_sees_is_declared() -> None:
    assert {name for name in merging.names() if merging.find(name).sees != "own task"} == {"fisher", "regmean"}
