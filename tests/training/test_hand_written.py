"""Fine-tuning against a loop written by hand in float64: AdamW, both spaces, τJp through ``torch.func.jvp``."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.config import FinetuneSettings, PaddedCrop, Recipe, RegulariserSettings
from pipeline.images import LabelledImages
from pipeline.images.images import Images
from pipeline.models.checkpoints import Space
from pipeline.models.encoders import ImageEncoder
from pipeline.models.heads import Head
from pipeline.models.registry import ModelDefinition
from pipeline.training import Plan, StepRecord

Weights = dict[str, Tensor]
NO_CROP = PaddedCrop(kind="padded_crop", padding=0)

Train = Callable[..., tuple[Weights, list[StepRecord]]]


@dataclass
class HandWritten:
    """A fine-tuning with seed 0 and without cropping, written from the formulas."""

    visual: torch.nn.Module
    definition: ModelDefinition
    head: Head
    plan: Plan
    space: Space
    weights: Weights = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    penalties: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.visual = copy.deepcopy(self.visual).double().requires_grad_(False)
        self.base = {name: p.clone() for name, p in self.visual.named_parameters()}
        self.weights = dict(self.base)

    def pixels(self, images: np.ndarray) -> Tensor:
        mean, std = (torch.tensor(v).double().view(1, 3, 1, 1) for v in (self.definition.mean, self.definition.std))
        return (torch.from_numpy(images).double() / 255 - mean) / std

    def linearised(self, theta: Weights, x: Tensor) -> tuple[Tensor, Tensor]:
        tau = {name: theta[name] - self.base[name] for name in theta}
        return jvp(lambda p: functional_call(self.visual, p, (x,)), (self.base,), (tau,))[:2]

    def cross_entropy(self, theta: Weights, x: Tensor, labels: np.ndarray) -> Tensor:
        if self.space == "tangent":
            primal, tangent = self.linearised(theta, x)
            embeddings = primal + tangent
        else:
            embeddings = functional_call(self.visual, theta, (x,))
        cosines = (embeddings / (embeddings**2).sum(dim=1, keepdim=True).sqrt()) @ self.head.weight.double().T
        log_shares = cosines - torch.logsumexp(cosines, dim=1, keepdim=True)
        return -log_shares[torch.arange(len(labels)), labels].mean()

    def penalty(self, theta: Weights, others: list[Tensor], norm: str) -> Tensor:
        """The mean over the tasks of the mean over their images."""
        parts = []
        for x in others:
            squares = (self.linearised(theta, x)[1] ** 2).sum(dim=1)
            # At τ = 0 the norm has no gradient; by convention it is 0.
            parts.append((squares if norm == "squared" or bool((squares == 0).all()) else squares.sqrt()).mean())
        return torch.stack(parts).mean()

    def train(self, train: LabelledImages, others: Mapping[str, Images]) -> None:
        """Batches of other tasks are all of their images, so that no random number decides which."""
        settings, regulariser = self.plan.settings, self.plan.regulariser
        first, second = ({name: torch.zeros_like(w) for name, w in self.base.items()} for _ in range(2))
        per_epoch = -(-len(train) // settings.batch_size)
        steps = round(self.plan.epochs * per_epoch)
        for step in range(steps):
            epoch, place = divmod(step, per_epoch)
            order = np.random.default_rng([0, 0, epoch]).permutation(len(train))
            batch = order[place * settings.batch_size : (place + 1) * settings.batch_size]
            theta = {name: w.clone().requires_grad_(True) for name, w in self.weights.items()}
            with differentiable():
                loss = self.cross_entropy(theta, self.pixels(train.images[batch]), train.labels[batch])
                penalty = torch.zeros(())
                if regulariser and regulariser.others:
                    pools = [self.pixels(images) for images in others.values()]
                    chosen = pools if regulariser.others.mode == "strict" else [pools[step % len(pools)]]
                    penalty = self.penalty(theta, chosen, str(regulariser.options["norm"]))
                total = loss + (regulariser.weight if regulariser else 0) * penalty
                actual = torch.autograd.grad(total, list(theta.values()))
            gradients = dict(zip(theta, actual, strict=True))
            norm = math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
            self.losses.append(loss.item())
            self.penalties.append(penalty.item())
            self.norms.append(norm)
            lr = self.plan.learning_rate(step, steps)
            for name, gradient in gradients.items():
                clipped = gradient * min(1.0, settings.max_grad_norm / norm)
                first[name] = 0.9 * first[name] + 0.1 * clipped
                second[name] = 0.999 * second[name] + 0.001 * clipped**2
                m, v = first[name] / (1 - 0.9 ** (step + 1)), second[name] / (1 - 0.999 ** (step + 1))
                decayed = self.weights[name] * (1 - lr * settings.weight_decay)
                self.weights[name] = decayed - lr * m / (v.sqrt() + 1e-8)


@contextmanager
def differentiable() -> Iterator[None]:
    """Attention without fused kernels, which have no forward-mode rule."""
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def moved(tuned: Weights, base: Weights) -> Tensor:
    """τ, flattened, without the bias of the keys: its gradient is zero but for rounding, which AdamW blows up."""
    parts = []
    for name in sorted(base):
        difference = tuned[name].double() - base[name].double()
        if name.endswith("in_proj_bias"):
            query, key, value = difference.chunk(3)
            assert key.abs().max() <= difference.abs().max()
            difference = torch.cat([query, value])
        parts.append(difference.flatten())
    return torch.cat(parts)


@pytest.fixture
def compare(
    train: Train,
    make_encoder: Callable[[], ImageEncoder],
    make_head: Callable[..., Head],
    make_images: Callable[..., LabelledImages],
    others: Mapping[str, Images],
    tiny_definition: ModelDefinition,
    finetune_settings: FinetuneSettings,
    base: Weights,
) -> Callable[..., tuple[HandWritten, Tensor]]:
    """Trains in both ways and compares curves and τ; gives the loop by hand and its τ."""

    def run(recipe: Recipe, epochs: float, **settings: object) -> tuple[HandWritten, Tensor]:
        settings = {"augmentation": NO_CROP, **settings}
        data = make_images(8, classes=3)
        trained, records = train(recipe, data, epochs, **settings)
        plan = Plan(finetune_settings.model_copy(update=settings), 1e-3, epochs, 0, recipe.regulariser)
        loop = HandWritten(make_encoder().visual, tiny_definition, make_head(3), plan, recipe.trained_in)
        loop.train(data, others)
        np.testing.assert_allclose([r.loss for r in records], loop.losses, rtol=1e-3)
        np.testing.assert_allclose([r.penalty for r in records], loop.penalties, rtol=1e-2, atol=1e-12)
        np.testing.assert_allclose([r.grad_norm for r in records], loop.norms, rtol=1e-2)
        actual, expected = moved(trained, base), moved(loop.weights, base)
        assert (actual - expected).norm() / expected.norm() < 1e-2
        return loop, expected

    return run


Compare = Callable[..., tuple[HandWritten, Tensor]]


@pytest.mark.parametrize("space", ["weight", "tangent"])
@pytest.mark.parametrize(
    ("epochs", "batch_size", "weight_decay", "max_grad_norm"),
    [(1.0, 8, 0.0, 1e9), (2.0, 4, 0.1, 0.5), (3.0, 4, 0.0, 2.0), (2.0, 3, 0.1, 2.0), (2.0, 7, 0.0, 1e9)],
)
def test_without_regulariser(
    compare: Compare,
    make_recipe: Callable[..., Recipe],
    space: Space,
    epochs: float,
    batch_size: int,
    weight_decay: float,
    max_grad_norm: float,
) -> None:
    loop, _ = compare(
        make_recipe(space),
        epochs,
        batch_size=batch_size,
        weight_decay=weight_decay,
        max_grad_norm=max_grad_norm,
        warmup=0.5 if epochs > 1 else 0.0,
    )
    assert loop.penalties == [0] * len(loop.losses)
    if max_grad_norm < 1e9:
        assert max(loop.norms) > max_grad_norm  # clipping took part


@pytest.mark.parametrize("space", ["weight", "tangent"])
@pytest.mark.parametrize("mode", ["cyclic", "strict"])
@pytest.mark.parametrize("norm", ["l2", "squared"])
def test_with_tau_jp(
    compare: Compare,
    make_recipe: Callable[..., Recipe],
    make_tau_jp: Callable[..., RegulariserSettings],
    space: Space,
    mode: str,
    norm: str,
) -> None:
    """Five steps, so that every one of three tasks has its turn; λ is large enough to matter."""
    settings = {"batch_size": 4, "max_grad_norm": 1e9, "weight_decay": 0.1}
    strength = 2.0 if norm == "l2" else 20.0
    loop, tau = compare(make_recipe(space, make_tau_jp(mode, norm, strength, batch_size=7)), 2.5, **settings)
    assert len(loop.penalties) == 5
    assert loop.penalties[0] == 0
    assert min(loop.penalties[1:]) > 0
    _, free = compare(make_recipe(space), 2.5, **settings)
    assert (free - tau).norm() / tau.norm() > 0.1
