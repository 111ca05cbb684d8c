"""The training steps to compare: each call is one forward and backward pass, without the optimiser."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.models import load_model_definition
from pipeline.models.encoders import build_clip
from pipeline.paradigms import select
from pipeline.tangent import Displacement, GenericTangent, LinearisedEncoder, TangentVisionTransformer

ImageBatch = Float[Tensor, "n 3 height width"]
TrainingStep = Callable[[], None]

# λ of the τJp penalty; costs do not depend on it.
PENALTY = 0.01


@dataclass(frozen=True)
class Workload:
    """Size of a training step; the τJp penalty sees ``other_batch`` images of each of ``other_tasks`` tasks."""

    model: str
    batch: int
    size: int
    threads: int
    device: str
    precision: str
    other_batch: int
    other_tasks: int


class Workbench:
    """An encoder with random weights, and random images; on the device ``meta`` only their shapes."""

    def __init__(self, setting: Workload) -> None:
        torch.set_num_threads(setting.threads)
        torch.manual_seed(0)
        self.setting = setting
        clip = build_clip(load_model_definition(setting.model))
        self.encoder = clip.get_submodule("visual").to(setting.device).requires_grad_(False)
        self.base = dict(self.encoder.named_parameters())
        self.images = self._random(setting.batch)
        self.others = [self._random(setting.other_batch) for _ in range(setting.other_tasks)]

    def _random(self, n: int) -> ImageBatch:
        return torch.randn(n, 3, self.setting.size, self.setting.size, device=self.setting.device)

    @cached_property
    def theta(self) -> dict[str, Tensor]:
        """Return θ for training in tangent space, which keeps θ₀ beside it."""
        return {name: (base + 1e-3 * torch.randn_like(base)).requires_grad_() for name, base in self.base.items()}

    def in_weight_space(self, trainable: str) -> None:
        """Run the ordinary step of f(x; θ); leave no gradients."""
        trained = [self.base[name].requires_grad_() for name in select(trainable, self.base)]
        with self._autocast():
            loss = self.encoder(self.images).float().square().mean()
        loss.backward()
        for parameter in trained:
            parameter.requires_grad_(False).grad = None

    def in_tangent_space(
        self, linearised: LinearisedEncoder, trainable: str, others: Sequence[ImageBatch] = ()
    ) -> None:
        """Run the step of f(x; θ₀) + J(x) τ with the τJp penalty, if there are images of other tasks.

        Each part goes backward before the next begins, so that one graph lives at a time. Leaves no gradients.
        """
        theta = {name: self.theta[name] for name in select(trainable, self.base)}
        for images in others:
            with self._autocast():
                moved = linearised.tangent(images, Displacement(theta, self.base))[0]
                penalty = torch.linalg.vector_norm(moved.float(), dim=1).mean()
            (PENALTY / len(others) * penalty).backward()
        with self._autocast():
            primal, moved = linearised(self.images, Displacement(theta, self.base))
            loss = (primal + moved[0]).float().square().mean()
        loss.backward()
        for parameter in theta.values():
            parameter.grad = None

    def _autocast(self) -> AbstractContextManager[object]:
        if self.setting.precision == "fp32":
            return nullcontext()
        return torch.autocast(torch.device(self.setting.device).type, torch.bfloat16)


def variants(bench: Workbench) -> dict[str, TrainingStep]:
    """Return the steps by name."""
    ours, generic = TangentVisionTransformer(bench.encoder), GenericTangent(bench.encoder)
    return {
        "standard": partial(bench.in_weight_space, "all"),
        "jvp": partial(bench.in_tangent_space, generic, "all"),
        "tangent": partial(bench.in_tangent_space, ours, "all"),
        "attention": partial(bench.in_weight_space, "attention"),
        "attention, tangent": partial(bench.in_tangent_space, ours, "attention"),
        "tau_jp cyclic": partial(bench.in_tangent_space, ours, "all", bench.others[:1]),
        "tau_jp strict": partial(bench.in_tangent_space, ours, "all", bench.others),
    }
