"""The kernel against explicit Jacobians in float64; the energy of eigenfunctions of kernels made by hand."""

import itertools
import weakref

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.analysis import localisation
from pipeline.analysis.localisation import count_gradients, localise, ntk_gram, pairwise_localisation, random_encoder
from pipeline.errors import UserError
from pipeline.io.arrays import fingerprint
from pipeline.models.encoders import ImageEncoder
from pipeline.models.registry import ModelDefinition
from tests.conftest import EncoderFactory, ImageFactory

CPU = torch.device("cpu")
AMPLE = 10**9


@pytest.fixture
def images(make_images: ImageFactory) -> Tensor:
    """Five images."""
    return torch.from_numpy(make_images(5).images)


@pytest.fixture(scope="session")
def row(make_encoder: EncoderFactory) -> int:
    """Bytes of one row of the tiny encoder's Jacobian."""
    return 4 * sum(parameter.numel() for parameter in make_encoder().visual.parameters())


def gram_by_hand(encoder: ImageEncoder, images: Tensor) -> np.ndarray:
    """The kernel from the Jacobians of all d outputs, one gradient at a time, in float64."""
    visual = encoder.visual.double()
    parameters = list(visual.parameters())
    rows = []
    for x in encoder.normalise(images).double():
        outputs = visual(x[None])[0]
        jacobian = [torch.autograd.grad(output, parameters, retain_graph=True) for output in outputs]
        flat = torch.stack([torch.cat([g.flatten() for g in gradients]) for gradients in jacobian])
        rows.append(flat.T @ torch.full((len(outputs),), len(outputs) ** -0.5, dtype=torch.double))
    return (torch.stack(rows) @ torch.stack(rows).T).numpy()


@pytest.mark.parametrize("chunk", [1, 2, 16])
def test_kernel_is_that_of_explicit_jacobians(
    make_encoder: EncoderFactory, images: Tensor, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(localisation, "_CHUNK", chunk)
    kernel = ntk_gram(make_encoder(), images, AMPLE, CPU)
    assert kernel.dtype == np.float64
    np.testing.assert_allclose(kernel, gram_by_hand(make_encoder(), images), rtol=1e-4)


def test_kernel_is_symmetric_and_positive(make_encoder: EncoderFactory, images: Tensor, row: int) -> None:
    for memory in (AMPLE, 4 * row):
        kernel = ntk_gram(make_encoder(), images, memory, CPU)
        np.testing.assert_array_equal(kernel, kernel.T)
        eigenvalues = np.linalg.eigvalsh(kernel)
        assert eigenvalues[0] > -1e-6 * eigenvalues[-1]


def test_kernel_takes_all_parameters_and_leaves_them(make_encoder: EncoderFactory, images: Tensor) -> None:
    """Also those that are frozen, and in an encoder that was training."""
    expected = ntk_gram(make_encoder(), images, AMPLE, CPU)
    encoder = make_encoder().requires_grad_(False).train()
    np.testing.assert_array_equal(ntk_gram(encoder, images, AMPLE, CPU), expected)
    for name, parameter in make_encoder().visual.named_parameters():
        assert torch.equal(encoder.visual.get_parameter(name), parameter)
        assert encoder.visual.get_parameter(name).grad is None


class Spy:
    """Count the rows that are computed, and the maximum that is held at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made, self.most = 0, 0
        self._blocks = list[weakref.ref[Tensor]]()
        self._rows = localisation._rows
        monkeypatch.setattr(localisation, "_rows", self)

    def __call__(self, encoder: ImageEncoder, images: Tensor) -> dict[str, Tensor]:
        alive = [block() for block in self._blocks]
        self.made += len(images)
        self.most = max(self.most, sum(len(rows) for rows in alive if rows is not None) + len(images))
        kernel_rows = self._rows(encoder, images)
        self._blocks.append(weakref.ref(next(iter(kernel_rows.values()))))
        return kernel_rows


# Rows that fit, rows made: five blocks of one image in the first two cases, then 2 + 2 + 1 images, then all.
@pytest.mark.parametrize(("fitting", "backward_passes"), [(2, 11), (3, 11), (4, 6), (5, 5)])
def test_memory_bounds_the_rows_and_changes_nothing(
    make_encoder: EncoderFactory,
    images: Tensor,
    row: int,
    fitting: int,
    backward_passes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = ntk_gram(make_encoder(), images, AMPLE, CPU)
    spy = Spy(monkeypatch)
    kernel = ntk_gram(make_encoder(), images, fitting * row + row - 1, CPU)
    np.testing.assert_allclose(kernel, expected, rtol=1e-6)
    assert spy.most <= fitting
    assert spy.made == backward_passes == count_gradients(row, len(images), fitting * row + row - 1)


@pytest.mark.parametrize(("n", "fitting"), [(1, 0), (2, 1), (5, 1)])
def test_too_little_memory(make_encoder: EncoderFactory, images: Tensor, row: int, n: int, fitting: int) -> None:
    with pytest.raises(
        UserError, match=rf"localisation\.memory: .* {n} images needs {min(n, 2)}; set it to at least 1$"
    ) as error:
        ntk_gram(make_encoder(), images[:n], fitting * row + row - 1, CPU)
    assert "\n" not in str(error.value)
    row = 1200 * 2**20  # as of ViT-L/14
    with pytest.raises(UserError, match=r"a row of the Jacobian takes 1,200 MiB.*; set it to at least 2400$"):
        count_gradients(row, 256, 2400 * 2**20 - 1)
    assert count_gradients(row, 256, 2400 * 2**20) == 1 + 256 * 255 // 2


def test_one_image_needs_one_row(make_encoder: EncoderFactory, images: Tensor, row: int) -> None:
    assert ntk_gram(make_encoder(), images[:1], row, CPU).shape == (1, 1)


def test_random_encoders_are_reproducible(tiny_definition: ModelDefinition, images: Tensor) -> None:
    encoder, again, other = (random_encoder(tiny_definition, seed) for seed in (1, 1, 2))
    assert encoder.sha256 == again.sha256 != other.sha256
    assert encoder.sha256 == fingerprint({name: tensor.numpy() for name, tensor in encoder.visual.state_dict().items()})
    assert not any(module.training for module in encoder.visual.modules())
    with torch.no_grad():
        assert torch.equal(encoder(images), again(images))
        assert not torch.equal(encoder(images), other(images))


def test_random_encoders_leave_random_numbers_alone(tiny_definition: ModelDefinition) -> None:
    before = torch.get_rng_state()
    random_encoder(tiny_definition, 1)
    assert torch.equal(torch.get_rng_state(), before)


def kernel(n: int, seed: int = 0) -> np.ndarray:
    """A positive definite matrix."""
    features = np.random.default_rng(seed).normal(size=(n, 2 * n))
    return features @ features.T


def test_eigenfunctions_of_unrelated_tasks_are_localised() -> None:
    first = np.array([True, False, True, False, False, True])
    gram = np.zeros((6, 6))
    gram[np.ix_(first, first)], gram[np.ix_(~first, ~first)] = kernel(3), kernel(3, seed=1)
    localised = localise(gram, first)
    parts = ((1.0, kernel(3)), (0.0, kernel(3, seed=1)))
    alone = [(value, own) for own, part in parts for value in np.linalg.eigvalsh(part)]
    values, owners = zip(*sorted(alone, reverse=True), strict=True)
    np.testing.assert_allclose(localised.eigenvalues, values, rtol=1e-12)
    np.testing.assert_allclose(localised.own_energy, owners, atol=1e-12)
    assert [localised.localisation(k) for k in (1, 3, 6)] == pytest.approx([1, 1, 1])


def test_a_constant_kernel_is_not_localised() -> None:
    localised = localise(np.ones((8, 8)), np.arange(8) < 4)
    np.testing.assert_allclose(localised.eigenvalues, [8] + 7 * [0], atol=1e-12)
    assert localised.localisation(1) == pytest.approx(0.5)


def test_localisation_is_the_mean_of_the_larger_shares() -> None:
    """Eigenvectors (cos a, sin a) of two images, one per task."""
    angle = 0.3
    basis = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    localised = localise(basis @ np.diag([1.0, 5.0]) @ basis.T, np.array([True, False]))
    np.testing.assert_allclose(localised.eigenvalues, [5, 1])
    np.testing.assert_allclose(localised.own_energy, [np.sin(angle) ** 2, np.cos(angle) ** 2])
    assert localised.localisation(1) == pytest.approx(np.cos(angle) ** 2)
    assert localised.localisation(2) == pytest.approx(np.cos(angle) ** 2)


def test_energy_is_on_either_task() -> None:
    first = np.arange(10) % 2 == 0
    gram = kernel(10)
    localised, swapped = localise(gram, first), localise(gram, ~first)
    assert (np.diff(localised.eigenvalues) <= 0).all()
    np.testing.assert_allclose(localised.own_energy + swapped.own_energy, 1)
    assert localised.own_energy.sum() == pytest.approx(5)
    assert localised.localisation(4) == pytest.approx(swapped.localisation(4))


@pytest.mark.parametrize("k", [1, 3, 100])
def test_pairs_take_their_part_of_the_kernel(k: int) -> None:
    tasks = ["signs", "digits", "signs", "pets", "digits", "pets", "pets", "signs", "digits"]
    gram = kernel(len(tasks))
    frame = pairwise_localisation(gram, tasks, k)
    assert list(frame.columns) == ["first", "second", "eigenfunction", "eigenvalue", "first_energy"]
    expected = []
    for first, second in (("signs", "digits"), ("signs", "pets"), ("digits", "pets")):
        chosen = [index for index, task in enumerate(tasks) if task in (first, second)]
        part = np.array([[gram[i, j] for j in chosen] for i in chosen])
        values, vectors = np.linalg.eigh(part)
        for rank, index in itertools.islice(enumerate(reversed(range(len(chosen)))), k):
            energy = sum(vectors[place, index] ** 2 for place, image in enumerate(chosen) if tasks[image] == first)
            expected.append((first, second, rank, values[index], energy))
    labels = ["first", "second", "eigenfunction"]
    assert frame[labels].to_numpy().tolist() == [list(line[:3]) for line in expected]
    np.testing.assert_allclose(
        frame[["eigenvalue", "first_energy"]].to_numpy(), [line[3:] for line in expected], rtol=1e-9, atol=1e-12
    )


def test_one_task_has_no_pairs() -> None:
    assert pairwise_localisation(kernel(3), ["signs"] * 3, 2).empty
