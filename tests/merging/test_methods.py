"""Merging methods: equal to their definitions, and the properties that follow from those."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.editing import TaskVector
from pipeline.merging import Context, Step, Stream, merge, merge_sum, merging, modifier
from pipeline.merging.quantiles import kth_smallest
from tests.merging.brute_force import BRUTE_FORCE, svc
from tests.merging.conftest import TaskVectorsFactory, total

WITH_IMAGES = {"fisher", "regmean"}
DATA_FREE = sorted(set(merging.names()) - WITH_IMAGES)


def test_every_method_without_images_has_a_brute_force() -> None:
    assert sorted(BRUTE_FORCE) == DATA_FREE


@pytest.mark.parametrize("part", ["", "attn"])
@pytest.mark.parametrize("name", DATA_FREE)
def test_the_sum_of_the_results_is_the_definition(name: str, part: str, make_vectors: TaskVectorsFactory) -> None:
    vectors = make_vectors(part=part)
    merged = total(merge(vectors, Step(name)))
    expected = BRUTE_FORCE[name]([{n: v.tensors[n].double().numpy() for n in sorted(v.tensors)} for v in vectors])
    assert merged.keys() == expected.keys()
    for tensor, array in expected.items():
        # Adam divides by the gradient's size, so that float32 shows where that is near zero.
        tolerance = 3e-5 if name == "wudi_steps" else 2e-6
        torch.testing.assert_close(merged[tensor], torch.from_numpy(array), rtol=1e-4, atol=tolerance)


# SVC takes singular vectors, which are any basis after Iso-C's equal singular values: a rounding error turns it.
@pytest.mark.parametrize(
    ("name", "modifiers"),
    [
        *((name, []) for name in DATA_FREE),
        *((name, [Step("svc"), Step("lines")]) for name in DATA_FREE if not name.startswith("iso_c")),
    ],
)
def test_the_sum_alone_equals_the_sum_of_the_parts(
    name: str, modifiers: list[Step], make_vectors: TaskVectorsFactory
) -> None:
    vectors = make_vectors()
    parts = total(merge(vectors, Step(name), modifiers))
    alone = merge_sum(vectors, Step(name), modifiers=modifiers)
    assert alone.provenance == replace(vectors[0].provenance, tasks=("a", "b", "c"))
    assert alone.tensors.keys() == parts.keys()
    for tensor, merged in alone.tensors.items():
        # Components that several tasks share cancel in SVC's projections, whose inverses show float32's rounding.
        torch.testing.assert_close(merged.double(), parts[tensor], rtol=1e-4, atol=1e-5 if modifiers else 2e-6)


@pytest.mark.parametrize("name", DATA_FREE)
def test_the_order_of_tasks_changes_nothing(name: str, make_vectors: TaskVectorsFactory) -> None:
    vectors = make_vectors()
    forwards, backwards = merge(vectors, Step(name)), merge(vectors[::-1], Step(name))[::-1]
    for one, other in zip(forwards, backwards, strict=True):
        for tensor in one.tensors:
            torch.testing.assert_close(one.tensors[tensor], other.tensors[tensor], rtol=1e-4, atol=1e-5)


# Adam's steps have a length of their own; PCB compares magnitudes after they are scaled to [0, 1].
@pytest.mark.parametrize("name", sorted(set(DATA_FREE) - {"wudi_steps"}))
def test_scaled_vectors_give_the_scaled_result(name: str, make_vectors: TaskVectorsFactory) -> None:
    vectors = make_vectors()
    once, scaled = total(merge(vectors, Step(name))), total(merge([4.0 * v for v in vectors], Step(name)))
    for tensor in once:
        torch.testing.assert_close(scaled[tensor], 4 * once[tensor], rtol=1e-4, atol=1e-6)


def call(name: str, deltas: torch.Tensor, **options: object) -> torch.Tensor:
    """Run a method's function on one matrix in a block, as the stream would."""
    method = merging.find(name)
    tasks = tuple("abcdefgh"[: len(deltas)])
    context = Context("transformer.resblocks.0.mlp.c_fc.weight", tasks, deltas, 1)
    ((_, merged),) = method.on(_once(context, deltas), method.options(options))
    return merged


def _once(context: Context, deltas: torch.Tensor):

    return Stream(lambda: iter([(context, deltas)]))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sum", {}),
        ("average", {}),
        ("ties", {"keep": 1.0}),
        ("dare", {"drop": 0.0}),
        ("dare_ties", {"drop": 0.0, "keep": 1.0}),
        ("breadcrumbs", {"keep": 1.0, "remove": 0.0}),
        ("consensus", {}),
        ("tsv_m", {}),
        ("cart", {}),
        ("wudi", {}),
        ("wudi_steps", {}),
    ],
)
@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
def test_one_vector_is_returned(name: str, options: dict[str, object], shape: tuple[int, int]) -> None:
    deltas = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(call(name, deltas, **options), deltas, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["tsv_m", "wudi"])
@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
def test_vectors_in_orthogonal_spaces_are_summed(name: str, shape: tuple[int, int]) -> None:
    random = torch.Generator().manual_seed(1)
    left, _ = torch.linalg.qr(torch.randn(shape[0], 12, generator=random, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(shape[1], 12, generator=random, dtype=torch.float64))
    slots = [slice(4 * t, 4 * t + 4) for t in range(3)]
    deltas = torch.stack([left[:, s] * torch.tensor([4.0, 3.0, 2.0, 1.0]) @ right[:, s].T for s in slots]).float()
    torch.testing.assert_close(call(name, deltas), deltas, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", DATA_FREE)
def test_a_task_that_does_not_move_gives_finite_results(name: str) -> None:
    deltas = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(2))
    deltas[1] = 0
    assert torch.isfinite(call(name, deltas)).all()
    assert torch.isfinite(call(name, torch.zeros(3, 6, 8))).all()


@pytest.mark.parametrize("name", ["tsv_m", "iso_c", "iso_cts"])
def test_equal_vectors_and_low_rank_do_not_depend_on_arbitrary_directions(name: str) -> None:
    random = torch.Generator().manual_seed(3)
    low = torch.randn(12, 3, generator=random) @ torch.randn(3, 16, generator=random)
    deltas = low.expand(2, -1, -1).clone()
    one, other = call(name, deltas), call(name, deltas.flip(0))
    torch.testing.assert_close(one, other)
    # Nothing outside the rows' and columns' spans.
    assert torch.linalg.matrix_rank(one.sum(0), atol=1e-4) <= 3


def test_in_proj_can_be_split(make_vectors: TaskVectorsFactory) -> None:
    vectors = make_vectors(part="in_proj_weight")
    split = total(merge(vectors, Step("iso_c", {"in_proj": "split"})))
    for name, merged in split.items():
        parts = torch.stack([v.tensors[name].double() for v in vectors]).sum(0).chunk(3)
        for part, result in zip(parts, merged.chunk(3), strict=True):
            u, s, vt = torch.linalg.svd(part, full_matrices=False)
            torch.testing.assert_close(result, s.mean() * u @ vt, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["tsv_m", "iso_c", "iso_cts", "cart", "wudi", "wudi_steps"])
@pytest.mark.parametrize(("others", "factor"), [("average", 1 / 3), ("sum", 1.0), ("zero", 0.0)])
def test_other_tensors_follow_an_option(
    name: str, others: str, factor: float, make_vectors: TaskVectorsFactory
) -> None:
    vectors = make_vectors(part="ln_post")
    summed = total(vectors)
    for tensor, merged in total(merge(vectors, Step(name, {"others": others}))).items():
        torch.testing.assert_close(merged, factor * summed[tensor], rtol=1e-5, atol=1e-8)


def test_only_matrices_of_blocks_on_request(make_vectors: TaskVectorsFactory) -> None:
    vectors = make_vectors(part="positional_embedding")
    merged = merge(vectors, Step("iso_c", {"matrices": "blocks", "others": "sum"}))
    assert total(merged)["positional_embedding"].equal(total(vectors)["positional_embedding"])


def test_lines_scales_by_depth_and_by_the_merged_norm(make_vectors: TaskVectorsFactory) -> None:
    vectors = make_vectors()
    plain = merge(vectors, Step("ties"))
    scaled = merge(vectors, Step("ties"), [Step("lines", {"slope": 0.7})])

    def norm(merged: dict[str, torch.Tensor]) -> float:
        return float(sum(tensor.square().sum() for tensor in merged.values())) ** 0.5

    intercept = norm(total(vectors)) / norm(total(plain)) / 3
    for name, merged in total(scaled).items():
        factor = intercept + (0.7 if "resblocks.1." in name else 0.0)
        torch.testing.assert_close(merged, factor * total(plain)[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["sum", "average", "tsv_m", "iso_c"])
def test_svc_calibrates_any_method(method: str, make_vectors: TaskVectorsFactory) -> None:
    vectors = make_vectors()
    plain, calibrated = total(merge(vectors, Step(method))), total(merge(vectors, Step(method), [Step("svc")]))
    for name, merged in calibrated.items():
        expected = plain[name].numpy()
        if merged.ndim == 2:
            expected = svc(torch.stack([v.tensors[name].double() for v in vectors]).numpy(), expected)
        torch.testing.assert_close(merged, torch.from_numpy(expected), rtol=1e-3, atol=1e-5)


def test_modifiers_stack_in_order(make_vectors: TaskVectorsFactory) -> None:
    vectors = make_vectors()
    both = merge(vectors, Step("iso_c"), [Step("svc"), Step("lines")])
    other = merge(vectors, Step("iso_c"), [Step("lines"), Step("svc")])
    name = "transformer.resblocks.1.mlp.c_fc.weight"
    assert not torch.allclose(total(both)[name], total(other)[name])
    assert modifier.names() == ["lines", "svc"]


def test_dare_drops_by_name_and_seed(make_vectors: TaskVectorsFactory) -> None:
    vectors = make_vectors()
    one, same = merge(vectors, Step("dare")), merge(vectors, Step("dare"))
    other = merge(vectors, Step("dare", {"seed": 1}))
    name = "proj"
    assert one[0].tensors[name].equal(same[0].tensors[name])
    assert not one[0].tensors[name].equal(other[0].tensors[name])
    assert not (one[0].tensors[name] != 0).equal(one[1].tensors[name] != 0)


def test_a_tensor_that_one_task_lacks_counts_as_zero(make_vectors: TaskVectorsFactory) -> None:
    first, second, third = make_vectors()
    attention = TaskVector({n: t for n, t in third.tensors.items() if "attn" in n}, third.provenance)
    padded = TaskVector(
        {n: attention.tensors.get(n, torch.zeros_like(t)) for n, t in third.tensors.items()}, third.provenance
    )
    for name in DATA_FREE:
        given, expected = merge([first, second, attention], Step(name)), merge([first, second, padded], Step(name))
        assert all(given[2].tensors[n].equal(t) for n, t in expected[2].tensors.items())


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40),
    st.data(),
)
def test_radix_selection_is_a_sort(values: list[float], data: st.DataObject) -> None:
    rows = torch.tensor([values, values[::-1]], dtype=torch.float32)
    rank = data.draw(st.integers(0, len(values) - 1))
    smallest = kth_smallest(lambda: rows.split(7, 1), lambda length: [rank, length - 1, 0])
    assert smallest.equal(rows.sort(1).values[:, [rank, -1, 0]])
