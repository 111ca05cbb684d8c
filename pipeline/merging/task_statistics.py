"""Statistics of a task's images under the model of its own task vector, in weight or in tangent space."""

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.editing import TaskVector
from pipeline.merging.statistics import ImageBatches, ImageStatistics, Kind, fisher_diagonals, gram_matrices
from pipeline.merging.with_images import moved
from pipeline.models.checkpoints import Space
from pipeline.models.encoders import ImageBatch, ImageEncoder
from pipeline.models.heads import Head
from pipeline.tangent import linearise


def task_statistics(
    kind: Kind,
    encoder: ImageEncoder,
    vector: TaskVector,
    head: Head,
    batches: ImageBatches,
    space: Space,
    seed: int,
) -> ImageStatistics:
    """Return a statistic of a task's images under its single-task model.

    In tangent space that model is f(x; θ₀) + J(x) τ: its Jacobian is J, at θ₀, and so are the inputs that its layers'
    updates act on, whatever τ is.

    Args:
        kind: the statistic.
        encoder: at θ₀, where it is again at the end; its device is where everything runs.
        vector: the task vector.
        head: the task's, for ``fisher``.
        batches: of images.
        space: where the task vector is added.
        seed: of the labels that ``fisher`` draws.
    """
    device = encoder.mean.device
    given = (batch.to(device) for batch in batches)
    tau = {name: tensor.to(device) for name, tensor in vector.tensors.items()}
    base, logits = vector.provenance.base_sha256, head.to(device).logits
    if space == "weight":
        with moved(encoder, tau):
            if kind == "gram":
                return gram_matrices(encoder, given, base)
            return fisher_diagonals(encoder, logits, given, base, seed)
    if kind == "gram":
        return gram_matrices(encoder, given, base)
    propagate, direction = linearise(encoder.visual), {name: tensor[None] for name, tensor in tau.items()}

    def embed(images: ImageBatch) -> Float[Tensor, "n features"]:
        with torch.no_grad():
            pretrained, change = propagate(encoder.normalise(images), direction)
        return pretrained + change[0]

    return fisher_diagonals(encoder, logits, given, base, seed, embed)
