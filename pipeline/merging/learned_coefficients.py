"""One coefficient per task and group of tensors, learned by gradient descent on images.

θ(λ) = θ₀ + Σₜ Σ_g λₜ_g τₜ_g. Yang et al., AdaMerging, minimise the entropy of the predictions on unlabelled images;
Zhang et al., aTLAS, the cross-entropy on labelled ones. The published AdaMerging adapts on the test images; here the
caller gives others, val's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int64, UInt8
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from pipeline.editing import TaskVector
from pipeline.merging.elementwise import Seed
from pipeline.merging.matrices import block_of
from pipeline.merging.registry import merging_with_images
from pipeline.merging.with_images import MergedWithImages, Positive, TaskImages
from pipeline.models.encoders import ImageEncoder

Groups = Literal["task", "block", "tensor"]
Rate = Annotated[float, Field(gt=0)]
LossFunction = Callable[[Float[Tensor, "n classes"], Int64[Tensor, " n"]], Float[Tensor, ""]]
LabelledBatch = tuple[UInt8[Tensor, "n 3 _ _"], Int64[Tensor, " n"]]


def entropy(logits: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
    """Return the mean entropy of the predictions; it does not look at the labels."""
    logs = logits.log_softmax(1)
    return -(logs.exp() * logs).sum(1).mean()


@merging_with_images("learned_coefficients", sees="other tasks' unlabelled images")
def learned_coefficients(
    vectors: Sequence[TaskVector],
    encoder: ImageEncoder,
    images: Sequence[TaskImages],
    *,
    per: Groups = "tensor",
    initial: float = 0.3,
    lr: Rate = 1e-3,
    steps: Annotated[int, Field(ge=0)] = 1000,
    batch_size: Positive = 16,
    seed: Seed = 0,
) -> MergedWithImages:
    """Coefficients per task and group that minimise the entropy of predictions on unlabelled images (AdaMerging).

    Args:
        vectors, encoder, images: in the same order.
        per: one coefficient per task, per task and residual block (everything else is one group), or per task and
            tensor, which the authors call layer-wise.
        initial: where all coefficients start.
        lr: Adam's learning rate.
        steps: each takes one batch of every task.
        batch_size: images per task and step.
        seed: of the batches.
    """
    return _learn(entropy, vectors, encoder, images, per, initial, lr, steps, batch_size, seed)


@merging_with_images("learned_coefficients_labelled", sees="labels of all")
def learned_coefficients_labelled(
    vectors: Sequence[TaskVector],
    encoder: ImageEncoder,
    images: Sequence[TaskImages],
    *,
    per: Groups = "tensor",
    initial: float = 0.3,
    lr: Rate = 1e-3,
    steps: Annotated[int, Field(ge=0)] = 1000,
    batch_size: Positive = 16,
    seed: Seed = 0,
) -> MergedWithImages:
    """The same with the cross-entropy of labelled images, as aTLAS has it. Arguments: :func:`learned_coefficients`."""
    return _learn(nn.functional.cross_entropy, vectors, encoder, images, per, initial, lr, steps, batch_size, seed)


@dataclass(frozen=True)
class Mixture:
    """θ₀ + Σ λₜ_g τₜ_g as a function of λ.

    group_of: the position of each tensor's group.
    """

    encoder: ImageEncoder
    vectors: Sequence[Mapping[str, Tensor]]
    group_of: Mapping[str, int]

    def weights(self, coefficients: Float[Tensor, "tasks groups"]) -> dict[str, Tensor]:
        """Return the parameters that the vectors move."""
        base = dict(self.encoder.visual.named_parameters())
        return {
            name: base[name].detach()
            + sum(c * v[name] for c, v in zip(coefficients[:, group], self.vectors, strict=True))
            for name, group in self.group_of.items()
        }

    def loss_and_gradient(
        self,
        coefficients: Float[Tensor, "tasks groups"],
        batches: Sequence[LabelledBatch],
        tasks: Sequence[TaskImages],
        criterion: LossFunction,
    ) -> tuple[float, Float[Tensor, "tasks groups"]]:
        """Return the sum of the tasks' losses, and its gradient.

        The loss's gradient with respect to the weights is summed over tasks before it is multiplied with the vectors,
        so that the weights are mixed once per step and only one task's graph is in memory.
        """
        weights = {name: tensor.requires_grad_() for name, tensor in self.weights(coefficients).items()}
        gradients = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
        loss = 0.0
        for (images, labels), task in zip(batches, tasks, strict=True):
            with torch.enable_grad():
                embedded = functional_call(
                    self.encoder.visual, weights, (self.encoder.normalise(images).to(coefficients),)
                )
                own = criterion(nn.functional.normalize(embedded, dim=-1) @ task.head.weight.to(embedded).T, labels)
                found = torch.autograd.grad(own, list(weights.values()), allow_unused=True)
            loss += float(own.detach())
            for total, gradient in zip(gradients.values(), found, strict=True):
                if gradient is not None:
                    total += gradient
        result = torch.zeros_like(coefficients)
        for name, group in self.group_of.items():
            for t, vector in enumerate(self.vectors):
                result[t, group] += torch.sum(vector[name] * gradients[name])
        return loss, result


def _learn(
    criterion: LossFunction,
    vectors: Sequence[TaskVector],
    encoder: ImageEncoder,
    images: Sequence[TaskImages],
    per: Groups,
    initial: float,
    lr: float,
    steps: int,
    batch_size: int,
    seed: int,
) -> MergedWithImages:
    names = sorted(vectors[0].tensors)
    groups = list(dict.fromkeys(_group(name, per) for name in names))
    device = encoder.mean.device
    moved = [{name: vector.tensors[name].to(device) for name in names} for vector in vectors]
    mixture = Mixture(encoder, moved, {name: groups.index(_group(name, per)) for name in names})
    coefficients = torch.full((len(vectors), len(groups)), initial, device=device)
    optimiser = torch.optim.Adam([coefficients], lr=lr)
    random = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    for _ in range(steps):
        batches = [_draw(task, batch_size, random, device) for task in images]
        loss, coefficients.grad = mixture.loss_and_gradient(coefficients, batches, images, criterion)
        optimiser.step()
        losses.append(loss / len(vectors))
    scaled = [
        TaskVector({n: float(row[mixture.group_of[n]]) * vector.tensors[n] for n in names}, vector.provenance)
        for row, vector in zip(coefficients.cpu(), vectors, strict=True)
    ]
    tasks = ["+".join(vector.provenance.tasks) for vector in vectors]
    table = {
        task: dict(zip(groups, row, strict=True)) for task, row in zip(tasks, coefficients.cpu().tolist(), strict=True)
    }
    # A batch's loss is noisy: a tenth of the steps at either end.
    ends = max(len(losses) // 10, 1)
    mean = {"first": losses[:ends], "last": losses[-ends:]}
    loss = {key: sum(part) / len(part) for key, part in mean.items() if part}
    return MergedWithImages(scaled, {"coefficients": table, "loss": loss})


def _group(name: str, per: Groups) -> str:
    if per == "task":
        return "all"
    if per == "tensor":
        return name
    block = block_of(name)
    return "outside" if block is None else f"block {block}"


def _draw(task: TaskImages, size: int, random: torch.Generator, device: torch.device) -> LabelledBatch:
    chosen = torch.randperm(len(task), generator=random)[:size].numpy()
    return torch.from_numpy(task.images[chosen]).to(device), torch.from_numpy(task.labels[chosen]).to(device)
