"""The algebra of task vectors, against the vector space of flattened float64 arrays; their files."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from pipeline.analysis.geometry import cosine_matrix
from pipeline.editing import TaskVector, read_task_vector, sum_vectors, write_task_vector
from pipeline.errors import UserError
from pipeline.io.arrays import read_arrays, write_arrays
from pipeline.models.checkpoints import Provenance

# beartype, which checks the constructor in tests, looks at a random item of a mapping.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Do not use the `random` module inside strategies:hypothesis.errors.HypothesisDeprecationWarning"
)

SHAPES = {"conv": (2, 1, 2), "norm": (3,), "proj": (2, 3), "scale": ()}
ORIGIN = Provenance("tiny", ("digits",), "standard", "weight", "a" * 64, 0, "c" * 64)

numbers = st.floats(-100, 100, width=32)
coefficients = st.floats(-3, 3, width=32)


@st.composite
def vectors(draw: st.DrawFn, task: str = "digits", least: int = 0) -> TaskVector:
    """A vector over a random subset of the tensors, as paradigms that train a part give."""
    names = draw(st.lists(st.sampled_from(sorted(SHAPES)), unique=True, min_size=least))
    tensors = {n: torch.from_numpy(draw(hnp.arrays(np.float32, SHAPES[n], elements=numbers))) for n in names}
    return TaskVector(tensors, replace(ORIGIN, tasks=(task,)))


bases = st.fixed_dictionaries(
    {n: hnp.arrays(np.float32, shape, elements=numbers).map(torch.from_numpy) for n, shape in SHAPES.items()}
)


def flat(tensors: dict[str, Tensor] | TaskVector) -> np.ndarray:
    """All tensors in one float64 array; those that a vector lacks are zero."""
    mapping = tensors.tensors if isinstance(tensors, TaskVector) else tensors
    parts = [mapping[n].double().numpy() if n in mapping else np.zeros(SHAPES[n]) for n in sorted(SHAPES)]
    return np.concatenate([part.reshape(-1) for part in parts])


def cosine_of(a: TaskVector, b: TaskVector) -> float:
    return float(cosine_matrix([a, b])[0, 1])


def assert_equals(vector: TaskVector, expected: np.ndarray) -> None:
    np.testing.assert_allclose(flat(vector), expected, rtol=1e-5, atol=1e-4)


@given(vectors(), vectors())
def test_addition(a: TaskVector, b: TaskVector) -> None:
    before = flat(a).copy(), flat(b).copy()
    assert_equals(a + b, flat(a) + flat(b))
    np.testing.assert_array_equal(flat(a + b), flat(b + a))
    assert (a + b).tensors.keys() == a.tensors.keys() | b.tensors.keys()
    np.testing.assert_array_equal((flat(a), flat(b)), before)


@given(vectors(), vectors(), vectors())
def test_addition_is_associative(a: TaskVector, b: TaskVector, c: TaskVector) -> None:
    assert_equals((a + b) + c, flat(a + (b + c)))


@given(vectors(least=1))
def test_sums_share_no_memory_with_their_terms(a: TaskVector) -> None:
    nothing = TaskVector({}, a.provenance)
    before = flat(a).copy()
    for total in (a + nothing, nothing + a, sum_vectors([nothing, a])):
        for name in a.tensors:
            torch.testing.assert_close(total.tensors[name], a.tensors[name], rtol=0, atol=0)
    np.testing.assert_array_equal(flat(a), before)


@given(vectors(), vectors())
def test_subtraction(a: TaskVector, b: TaskVector) -> None:
    assert_equals(a - b, flat(a) - flat(b))
    assert not flat(a - a).any()
    assert (a - a).tensors.keys() == a.tensors.keys()


@given(vectors())
def test_negation(a: TaskVector) -> None:
    np.testing.assert_array_equal(flat(-a), -flat(a))
    negated = -a
    np.testing.assert_array_equal(flat(-negated), flat(a))


@given(vectors(), coefficients, coefficients)
def test_scaling(a: TaskVector, x: float, y: float) -> None:
    assert_equals(a * x, x * flat(a))
    np.testing.assert_array_equal(flat(x * a), flat(a * x))
    assert_equals((a * x) * y, x * y * flat(a))
    assert_equals(a * x + a * y, (x + y) * flat(a))


@given(vectors(), vectors(), coefficients)
def test_scaling_distributes_over_addition(a: TaskVector, b: TaskVector, x: float) -> None:
    assert_equals((a + b) * x, x * flat(a) + x * flat(b))


@given(vectors(), vectors())
def test_inner_product_norm_and_cosine(a: TaskVector, b: TaskVector) -> None:
    x, y = flat(a), flat(b)
    assert a.dot(b) == pytest.approx(x @ y, rel=1e-12, abs=1e-9)
    assert a.dot(b) == b.dot(a)
    assert a.norm() == pytest.approx(np.linalg.norm(x), rel=1e-12)
    if x.any() and y.any():
        cosine = x @ y / (np.linalg.norm(x) * np.linalg.norm(y))
        assert cosine_of(a, b) == pytest.approx(cosine, rel=1e-9, abs=1e-9)
        assert -1 <= cosine_of(a, b) <= 1
    else:
        assert cosine_of(a, b) == 0


@given(vectors(least=1), st.floats(0.125, 8, width=32))
def test_cosine_of_parallel_vectors(a: TaskVector, x: float) -> None:
    if a.norm() > 0.1:
        assert cosine_of(a, a) == pytest.approx(1, abs=1e-12)
        assert cosine_of(a, a) <= 1
        assert cosine_of(a, a * x) == pytest.approx(1, abs=1e-6)
        assert cosine_of(a, -a) == pytest.approx(-1, abs=1e-12)


def test_inner_product_of_many_small_terms_is_exact() -> None:
    """A float32 sum would lose a third of it."""
    big = TaskVector({"x": torch.full((100_000,), 0.1), "y": torch.tensor([1e4])}, ORIGIN)
    exact = 100_000 * float(np.float32(0.1)) ** 2 + 1e8
    assert big.dot(big) == pytest.approx(exact, rel=1e-12)


@given(bases, vectors(), coefficients)
def test_apply(base: dict[str, Tensor], a: TaskVector, x: float) -> None:
    before = flat(base).copy()
    edited = a.apply(base, x)
    assert edited.keys() == base.keys()
    np.testing.assert_allclose(flat(edited), flat(base) + x * flat(a), rtol=1e-5, atol=1e-4)
    for name in base.keys() - a.tensors.keys():
        assert torch.equal(edited[name], base[name])
    np.testing.assert_array_equal(flat(base), before)


@given(bases, bases)
def test_a_task_vector_leads_from_base_to_tuned(base: dict[str, Tensor], tuned: dict[str, Tensor]) -> None:
    vector = TaskVector.between(base, tuned, ORIGIN)
    assert_equals(vector, flat(tuned) - flat(base))
    np.testing.assert_allclose(flat(vector.apply(base)), flat(tuned), rtol=1e-5, atol=2e-5)
    np.testing.assert_array_equal(flat(vector.apply(base, 0.0)), flat(base))


def test_between_takes_only_trained_tensors() -> None:
    base = {"a": torch.ones(2), "b": torch.ones(3)}
    vector = TaskVector.between(base, {"b": torch.full((3,), 4.0)}, ORIGIN)
    assert {name: tensor.tolist() for name, tensor in vector.tensors.items()} == {"b": [3, 3, 3]}


@given(st.lists(vectors(), min_size=1, max_size=5))
def test_sum_is_repeated_addition(terms: list[TaskVector]) -> None:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    np.testing.assert_array_equal(flat(sum_vectors(terms)), flat(total))
    np.testing.assert_array_equal(flat(sum_vectors(iter(terms))), flat(total))
    assert_equals(total, np.sum([flat(term) for term in terms], axis=0))


def test_sum_of_nothing() -> None:
    with pytest.raises(UserError, match="at least one"):
        sum_vectors([])


def vector_of(task: str, base: str = "a", **tensors: Tensor) -> TaskVector:
    return TaskVector(tensors or {"x": torch.ones(2)}, replace(ORIGIN, tasks=(task,), base_sha256=base * 64))


@pytest.mark.parametrize(
    "combine",
    [
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: a.dot(b),
        lambda a, b: cosine_of(a, b),
        lambda a, b: sum_vectors([a, a, b]),
    ],
)
def test_vectors_of_different_base_do_not_mix(combine: Callable[[TaskVector, TaskVector], object]) -> None:
    with pytest.raises(UserError) as error:
        combine(vector_of("digits", "a"), vector_of("signs", "b"))
    line = str(error.value)
    assert "\n" not in line
    for text in ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "tiny/standard/digits", "tiny/standard/signs"):
        assert text in line


@pytest.mark.parametrize("combine", [lambda a, b: a + b, lambda a, b: a.dot(b)])
def test_shapes_must_agree(combine: Callable[[TaskVector, TaskVector], object]) -> None:
    a, b = vector_of("digits", x=torch.ones(2)), vector_of("signs", x=torch.ones(1))
    with pytest.raises(UserError, match="tensor 'x' differs in shape"):
        combine(a, b)


def test_combination_names_all_it_was_made_of() -> None:
    a = vector_of("signs")
    b = TaskVector(a.tensors, replace(ORIGIN, tasks=("digits",), recipe="ntk"))
    total = sum_vectors([a, b, a * 2.0])
    assert total.provenance.tasks == ("digits", "signs")
    assert total.provenance.recipe == "ntk+standard"
    assert total.provenance.base_sha256 == a.provenance.base_sha256


@pytest.mark.parametrize(
    ("tuned", "text"),
    [
        ({"y": torch.ones(2)}, r"θ₀ has no tensor 'y' of shape \[2\]$"),
        ({"x": torch.ones(3)}, r"θ₀ has no tensor 'x' of shape \[3\]$"),
        ({"x": torch.tensor([1.0, torch.nan])}, "'x' has NaN"),
        ({"x": torch.tensor([1.0, torch.inf])}, "'x' has NaN or infinite values"),
    ],
)
def test_tuned_weights_that_give_no_vector(tuned: dict[str, Tensor], text: str) -> None:
    with pytest.raises(UserError, match=text) as error:
        TaskVector.between({"x": torch.ones(2)}, tuned, ORIGIN)
    assert str(error.value).startswith("task vector tiny/standard/digits: ")


def test_apply_to_another_architecture() -> None:
    with pytest.raises(UserError, match="θ₀ has no tensor 'x'"):
        vector_of("digits").apply({"y": torch.ones(2)})


def test_apply_to_another_shape() -> None:
    with pytest.raises(UserError, match=r"θ₀ has no tensor 'x' of shape \[2\]$"):
        vector_of("digits").apply({"x": torch.ones(1)})


@given(vectors(least=1))
def test_vector_comes_back(tmp_path_factory: pytest.TempPathFactory, vector: TaskVector) -> None:
    path = tmp_path_factory.mktemp("vectors") / "v.safetensors"
    write_task_vector(path, vector)
    restored = read_task_vector(path)
    assert restored.provenance == vector.provenance
    assert restored.tensors.keys() == vector.tensors.keys()
    for name, tensor in vector.tensors.items():
        assert restored.tensors[name].shape == tensor.shape
        assert torch.equal(restored.tensors[name], tensor)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "vector.safetensors"
    write_task_vector(path, vector_of("digits"))
    return path


def test_metadata_says_where_a_vector_comes_from(stored: Path) -> None:
    _, metadata = read_arrays(stored)
    assert metadata == {
        "format_version": 2,
        "model": "tiny",
        "tasks": ["digits"],
        "recipe": "standard",
        "space": "weight",
        "base_sha256": "a" * 64,
        "seed": 0,
        "code": "c" * 64,
    }


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format_version": 3}, "format version is 3, this Tauflow reads 1 and 2"),
        ({"format_version": None}, "format version is None"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_other_formats(change: dict[str, object], text: str, stored: Path) -> None:
    arrays, metadata = read_arrays(stored)
    write_arrays(stored, arrays, {**metadata, **change})
    with pytest.raises(UserError, match=text) as error:
        read_task_vector(stored)
    assert str(error.value).startswith(f"{stored}: not a checkpoint or task vector: ")
    assert "\n" not in str(error.value)


def test_incomplete_metadata(stored: Path) -> None:
    arrays, metadata = read_arrays(stored)
    for key in metadata:
        write_arrays(stored, arrays, {k: v for k, v in metadata.items() if k != key})
        with pytest.raises(UserError, match=key.replace("_", "[ _]")) as error:
            read_task_vector(stored)
        assert str(error.value).startswith(f"{stored}: ")


def test_truncated_file(stored: Path) -> None:
    stored.write_bytes(stored.read_bytes()[:-1])
    with pytest.raises(UserError, match="damaged") as error:
        read_task_vector(stored)
    assert str(error.value).startswith(f"{stored}: ")


def test_vectors_that_combine_are_checked_without_a_sum(make_vector: Callable[..., TaskVector]) -> None:
    vector, other = make_vector(0), make_vector(1, part="attn")
    vector.check_combines(other)
    foreign = TaskVector(other.tensors, replace(other.provenance, base_sha256="b" * 64))
    with pytest.raises(UserError, match=r"^task vectors of different θ₀ cannot be combined: "):
        vector.check_combines(foreign)
    reshaped = TaskVector({name: tensor[None] for name, tensor in other.tensors.items()}, other.provenance)
    with pytest.raises(UserError, match=r"tensor 'transformer\.resblocks\.0\.attn.* differs in shape$"):
        vector.check_combines(reshaped)
