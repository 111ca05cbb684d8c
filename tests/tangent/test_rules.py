"""Every tangent rule alone: its value against forward-mode differentiation of the plain operation, and its gradient."""

from collections.abc import Callable
from itertools import product

import open_clip.transformer as oc
import pytest
import torch
from torch import Tensor
from torch.func import jvp
from torch.nn import functional as F

from pipeline.tangent import rules

Operation = Callable[..., Tensor]

directions = pytest.mark.parametrize("count", [1, 3])


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.double)


def moving(count: int, *tensors: Tensor) -> list[Tensor]:
    """Tangents of the tensors."""
    return [random(count, *tensor.shape).requires_grad_() for tensor in tensors]


def pushed_forward(operation: Operation, primals: list[Tensor], tangents: list[Tensor | None]) -> Tensor:
    """The differential by ``torch.func.jvp``, one direction after the other; ``None`` is a tangent of zero."""
    count = next(len(tangent) for tangent in tangents if tangent is not None)
    filled = [x.new_zeros(count, *x.shape) if dx is None else dx for x, dx in zip(primals, tangents, strict=True)]
    each = [jvp(operation, tuple(primals), tuple(dx[i] for dx in filled))[1] for i in range(count)]
    return torch.stack([tangent for tangent in each if isinstance(tangent, Tensor)])


def check(rule: Operation, operation: Operation, primals: list[Tensor], tangents: list[Tensor | None]) -> None:
    """``rule`` takes the tangents that are given and nothing else."""
    given = [tangent for tangent in tangents if tangent is not None]
    torch.testing.assert_close(rule(*given), pushed_forward(operation, primals, tangents), rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(rule, given)


# Which of (dx, dγ or dW, dβ or db) there are.
PRESENT = [present for present in product([True, False], repeat=3) if any(present)]


@directions
@pytest.mark.parametrize("present", PRESENT)
def test_linear(count: int, present: tuple[bool, bool, bool]) -> None:
    x, weight, bias = random(2, 5, 3), random(4, 3), random(4)
    tangents = [dx if here else None for dx, here in zip(moving(count, x, weight, bias), present, strict=True)]

    def rule(*given: Tensor) -> Tensor:
        dx, dweight, dbias = fill(given, present)
        dy = rules.linear(x, dx, weight, dweight, dbias)
        assert dy is not None
        return dy

    check(rule, F.linear, [x, weight, bias], tangents)


@directions
@pytest.mark.parametrize("present", PRESENT)
def test_layer_norm(count: int, present: tuple[bool, bool, bool]) -> None:
    x, weight, bias = 3 * random(2, 5, 6) + 1, random(6), random(6)
    _, mean, rstd = torch.native_layer_norm(x, [6], weight, bias, 1e-5)
    tangents = [dx if here else None for dx, here in zip(moving(count, x, weight, bias), present, strict=True)]

    def rule(*given: Tensor) -> Tensor:
        dx, dweight, dbias = fill(given, present)
        dy = rules.layer_norm(x, dx, (mean, rstd), weight, dweight, dbias)
        assert dy is not None
        return dy

    check(rule, lambda x, weight, bias: F.layer_norm(x, [6], weight, bias, 1e-5), [x, weight, bias], tangents)


def fill(given: tuple[Tensor, ...], present: tuple[bool, bool, bool]) -> list[Tensor | None]:
    """The given tangents in their places."""
    remaining = iter(given)
    return [next(remaining) if here else None for here in present]


def test_constant_inputs_have_no_tangent() -> None:
    x, weight = random(2, 5, 6), random(6, 6)
    statistics = random(2, 5, 1), random(2, 5, 1)
    assert rules.linear(x, None, weight, None, None) is None
    assert rules.layer_norm(x, None, statistics, weight[0], None, None) is None


@directions
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(count: int, approximate: str) -> None:
    x = 2 * random(2, 5, 6)
    (dx,) = moving(count, x)
    check(lambda dx: rules.gelu(dx, x, approximate), lambda x: F.gelu(x, approximate=approximate), [x], [dx])


@directions
def test_quick_gelu(count: int) -> None:
    x = 2 * random(2, 5, 6)
    (dx,) = moving(count, x)
    check(lambda dx: rules.quick_gelu(dx, x), oc.QuickGELU(), [x], [dx])


@directions
@pytest.mark.parametrize("queries", [1, 5])
def test_attend(count: int, queries: int) -> None:
    """With as many queries as keys, and with one, as in a last block that pools only the class token."""
    q, k, v = random(2, 3, queries, 4), random(2, 3, 5, 4), random(2, 3, 5, 4)

    def weights(q: Tensor, k: Tensor) -> Tensor:
        return torch.softmax(q @ k.mT / 2, dim=-1)

    p = weights(q, k)
    check(
        lambda dq, dk, dv: rules.attend(dq, dk, dv, q, k, v, p),
        lambda q, k, v: weights(q, k) @ v,
        [q, k, v],
        [*moving(count, q, k, v)],
    )
