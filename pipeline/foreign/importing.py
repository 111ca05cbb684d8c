"""Make a task vector from a foreign checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.editing import TaskVector
from pipeline.errors import UserError
from pipeline.foreign.checkpoint import ForeignCheckpoint
from pipeline.foreign.matching import match
from pipeline.models.checkpoints import Provenance, code_fingerprint
from pipeline.models.encoders import ImageEncoder

# Relative norm below which a file's tensors are a difference θ − θ₀; for weights θ it is about 1.
_SMALL = 0.5


@dataclass(frozen=True)
class Imported:
    """A task vector made from a foreign checkpoint, with only the tensors that moved.

    relative_norm: ‖τ‖ / ‖θ₀‖.
    unmoved: tensors of the file that equal θ₀.
    absent: tensors that the file lacks, which therefore stay at θ₀.
    base_is_known: whether the file contains its θ₀, which then equals this one.
    rounded: whether the file is of lower precision than float32, so that τ holds rounding errors.
    was_difference: whether the file held τ itself.
    notes: what else the user should know.
    """

    vector: TaskVector
    relative_norm: float
    unmoved: list[str]
    absent: list[str]
    base_is_known: bool
    rounded: bool
    was_difference: bool
    notes: tuple[str, ...] = ()


def import_task_vector(
    checkpoint: ForeignCheckpoint, encoder: ImageEncoder, quick_gelu: bool, model: str, recipe: str, task: str
) -> Imported:
    """Return τ = θ − θ₀ with θ from the checkpoint, or the checkpoint itself if it is such a difference.

    Args:
        checkpoint: the file.
        encoder: at θ₀.
        quick_gelu: whether the encoder uses QuickGELU.
        model, recipe, task: the model, recipe and task of the vector.

    Raises:
        UserError: the file holds no encoder of this model, starts from another θ₀ or belongs to another task; no tensor
            moved, or one moved that is not a parameter.
    """
    where = checkpoint.path
    if checkpoint.quick_gelu not in (None, quick_gelu):
        theirs, ours = ("QuickGELU", "GELU") if checkpoint.quick_gelu else ("GELU", "QuickGELU")
        raise UserError(f"{where}: was trained with {theirs}, but model {model} has {ours}; choose another --model")
    base = {name: tensor.detach().cpu() for name, tensor in encoder.visual.state_dict().items()}
    _check_own(checkpoint, encoder.sha256, task)
    matched = match(checkpoint, base)
    provenance = Provenance(
        model, (task,), recipe, matched.space, encoder.sha256, 0, code_fingerprint(), checkpoint.origin
    )
    if checkpoint.provenance:
        provenance = replace(provenance, space=checkpoint.provenance.space)
    origin = TaskVector({name: base[name].float() for name in matched.tensors}, provenance)
    was_difference = _is_difference(TaskVector(matched.tensors, provenance), origin)
    zero = {
        name: torch.zeros_like(tensor) if was_difference else base[name] for name, tensor in matched.tensors.items()
    }
    moved = {name: tensor for name, tensor in matched.tensors.items() if not tensor.equal(zero[name].float())}
    _check_moved(checkpoint, moved, dict(encoder.visual.named_parameters()))
    vector = TaskVector.between(zero, moved, provenance)
    return Imported(
        vector,
        vector.norm() / TaskVector(base, provenance).norm(),
        [name for name in base if name in matched.tensors and name not in moved],
        [name for name in base if name not in matched.tensors],
        matched.base_is_known or checkpoint.provenance is not None,
        matched.rounded,
        was_difference,
        (*checkpoint.notes, *matched.notes),
    )


def _check_own(checkpoint: ForeignCheckpoint, base_sha256: str, task: str) -> None:
    """Check the provenance of a file that Tauflow wrote."""
    origin = checkpoint.provenance
    if origin is None:
        return
    if origin.base_sha256 != base_sha256:
        raise UserError(
            f"{checkpoint.path}: belongs to θ₀ {origin.base_sha256[:12]} of {origin.model}, not to {base_sha256[:12]}; "
            "choose another --model"
        )
    if origin.tasks != (task,):
        raise UserError(f"{checkpoint.path}: is of {' + '.join(origin.tasks)} and not of {task}; choose another --task")


def _is_difference(vector: TaskVector, origin: TaskVector) -> bool:
    """Return whether tensors are closer to zero than to θ₀, and small beside it."""
    size, distance = vector.norm(), (vector - origin).norm()
    return size < distance and size < _SMALL * origin.norm()


def _check_moved(checkpoint: ForeignCheckpoint, moved: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> None:
    if not moved:
        raise UserError(
            f"{checkpoint.path}: no tensor differs from θ₀, so there is no task vector; name the fine-tuned file"
        )
    for name in moved:
        if name not in parameters:
            raise UserError(
                f"{checkpoint.path}: {name!r} differs from θ₀, but is not a parameter, and edits move only parameters"
            )
