"""Read the inputs of a fine-tuning from the parameters: its encoder, data and plan."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from artifacts import layout
from pipeline.config import Parameters
from pipeline.errors import UserError
from pipeline.images import read_split, read_unlabelled
from pipeline.models import load_model_definition
from pipeline.models.checkpoints import read_tensors
from pipeline.models.encoders import load_image_encoder
from pipeline.models.heads import read_head
from pipeline.paradigms import TrainableEncoder, make_trainable
from pipeline.training import Plan, TrainingData


@dataclass(frozen=True)
class FineTuning:
    """A fine-tuning that is ready to run.

    inputs: the files that it was read from, which identify it when it resumes.
    """

    encoder: TrainableEncoder
    data: TrainingData
    plan: Plan
    base_sha256: str
    inputs: list[Path]


def read_plan(params: Parameters, task: str, recipe: str) -> Plan:
    """Return the plan of a fine-tuning: its length, learning rate and regulariser.

    A regulariser of other tasks' images is dropped if there are no other tasks to see.
    """
    described, settings = params.derived.recipe[recipe], params.finetune
    regulariser = described.regulariser
    sees_nothing = regulariser is not None and regulariser.others is not None and not described.others_of(task)
    return Plan(
        settings=settings,
        lr=settings.lr or described.schedule.lr,
        epochs=params.epochs[task] * described.schedule.length,
        seed=params.seed,
        regulariser=None if sees_nothing else regulariser,
        steps=round(settings.steps * described.schedule.length) if settings.steps else None,
    )


def read_fine_tuning(params: Parameters, model: str, task: str, recipe: str, device: torch.device) -> FineTuning:
    """Load the inputs of a fine-tuning: its encoder (at θ₀, or at the recipe's start), its head and training images.

    Raises:
        UserError: the recipe does not fit the model, or its start belongs to another θ₀.
    """
    described = params.derived.recipe[recipe]
    inputs = [layout.image_encoder(model), layout.head(model, task), layout.split(task, "train")]
    pretrained = load_image_encoder(load_model_definition(model), layout.image_encoder(model)).to(device)
    start = None
    if described.start is not None:
        inputs.append(layout.task_vector(model, described.start, task))
        start = _read_start(inputs[-1], pretrained.sha256)
    encoder = make_trainable(pretrained, described, start)
    head = read_head(layout.head(model, task))
    train = read_split(layout.split(task, "train"), len(head.classes))
    others = {other: layout.split(other, "train") for other in described.others_of(task)}
    images = {other: read_unlabelled(path) for other, path in others.items()}
    data, plan = TrainingData(train, head, images), read_plan(params, task, recipe)
    return FineTuning(encoder, data, plan, pretrained.sha256, [*inputs, *others.values()])


def _read_start(path: Path, base_sha256: str) -> dict[str, Tensor]:
    tensors, origin = read_tensors(path)
    if origin.base_sha256 != base_sha256:
        raise UserError(f"{path}: belongs to θ₀ {origin.base_sha256[:12]}, not to {base_sha256[:12]}; run `dvc repro`")
    return tensors
