"""A foreign checkpoint as a task vector."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from pipeline.editing import TaskVector
from pipeline.errors import UserError
from pipeline.foreign.checkpoint import ForeignCheckpoint
from pipeline.foreign.matching import match
from pipeline.models.checkpoints import Provenance, code_fingerprint
from pipeline.models.encoders import ImageEncoder


@dataclass(frozen=True)
class Imported:
    """A task vector out of a foreign checkpoint; it holds only what moved.

    relative_norm: ‖τ‖ / ‖θ₀‖.
    absent: tensors that the file lacks, so that they stay at θ₀.
    base_is_known: whether the file carries its θ₀, and it is ours.
    rounded: whether the file is of lower precision than float32, so that τ holds rounding errors.
    """

    vector: TaskVector
    relative_norm: float
    unmoved: list[str]
    absent: list[str]
    base_is_known: bool
    rounded: bool


def import_task_vector(
    checkpoint: ForeignCheckpoint, encoder: ImageEncoder, quick_gelu: bool, model: str, recipe: str, task: str
) -> Imported:
    """τ = θ − θ₀, θ out of the checkpoint.

    Args:
        checkpoint: the file.
        encoder: at θ₀.
        quick_gelu: whether the encoder has QuickGELU.
        model, recipe, task: what the vector belongs to.

    Raises:
        UserError: the file holds no encoder of this model, or starts from another θ₀; nothing moved; what moved is no
            parameter.
    """
    where = checkpoint.path
    if checkpoint.quick_gelu not in (None, quick_gelu):
        theirs, ours = ("QuickGELU", "GELU") if checkpoint.quick_gelu else ("GELU", "QuickGELU")
        raise UserError(f"{where}: was trained with {theirs}, but model {model} has {ours}; choose another --model")
    base = {name: tensor.detach().cpu() for name, tensor in encoder.visual.state_dict().items()}
    matched = match(checkpoint, base)
    moved = {name: tensor for name, tensor in matched.tensors.items() if not tensor.equal(base[name].float())}
    _check_moved(checkpoint, moved, dict(encoder.visual.named_parameters()))
    provenance = Provenance(
        model, (task,), recipe, matched.space, encoder.sha256, 0, code_fingerprint(), checkpoint.origin
    )
    vector = TaskVector.between(base, moved, provenance)
    return Imported(
        vector,
        vector.norm() / TaskVector(base, provenance).norm(),
        [name for name in base if name in matched.tensors and name not in moved],
        [name for name in base if name not in matched.tensors],
        matched.base_is_known,
        any(tensor.is_floating_point() and tensor.element_size() < 4 for tensor in checkpoint.tensors.values()),
    )


def _check_moved(checkpoint: ForeignCheckpoint, moved: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> None:
    if not moved:
        raise UserError(f"{checkpoint.path}: every tensor equals θ₀, so that there is no task vector; take θ, not θ₀")
    for name, tensor in moved.items():
        if name not in parameters:
            raise UserError(f"{checkpoint.path}: {name!r} differs from θ₀, but edits move parameters and no statistics")
        if not tensor.isfinite().all():
            raise UserError(f"{checkpoint.path}: tensor {name!r} holds NaN or infinity; the file is of no use")
