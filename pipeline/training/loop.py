"""Fine-tuning an image encoder on one task, head frozen: the loop, from top to bottom."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.paradigms import TrainableEncoder
from pipeline.progress import progress
from pipeline.training.batches import Batches, OtherBatches
from pipeline.training.curve import StepRecord
from pipeline.training.objective import Objective
from pipeline.training.plan import Plan, TrainingData
from pipeline.training.processes import Processes
from pipeline.training.resume import ResumeFile

ALONE = Processes()


def finetune(
    encoder: TrainableEncoder,
    data: TrainingData,
    plan: Plan,
    device: torch.device,
    on_step: Callable[[StepRecord], None],
    resume: ResumeFile | None = None,
    processes: Processes = ALONE,
) -> tuple[dict[str, Tensor], list[StepRecord]]:
    """Train the encoder in place: AdamW, warm-up and cosine, gradient clipping.

    Args:
        encoder: starts at θ₀, on ``device``.
        data: what to learn, and the images of other tasks for the regulariser.
        plan: hyper-parameters and seed.
        device: where to train.
        on_step: called after every step that this call makes.
        resume: where to continue from, if it holds the state of the same run, and where to save it.
        processes: those that share each batch.

    Returns:
        The trained tensors θ by parameter name, on the CPU, and the record of every step.

    Raises:
        UserError: the loss or a weight is no number any more; the regulariser is unknown; a batch is too small to
            be divided.
    """
    batches, others = _batches(data, plan, processes)
    steps = max(1, round(plan.epochs * batches.per_epoch))
    objective = Objective(encoder, data.head, plan, device, processes)
    parameters = list(encoder.trained.values())
    optimizer = torch.optim.AdamW(parameters, lr=plan.lr, weight_decay=plan.settings.weight_decay)
    curve = resume.load(encoder.trained, optimizer) if resume else []

    remaining = batches.iterate(len(curve), steps)
    for step, epoch, images, labels in progress(remaining, "fine-tuning", steps, len(curve), processes.rank == 0):
        lr = plan.learning_rate(step, steps)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        penalty = objective.penalise(others.of_step(step) if others else [None])
        loss, accuracy = objective.learn(images, labels)
        loss, accuracy, penalty = processes.total(loss, accuracy, penalty)
        if not math.isfinite(loss + penalty):
            said = f"loss is {loss}" if math.isnan(loss) or math.isinf(loss) else f"penalty is {penalty}"
            raise UserError(f"{said} at step {step} of {steps} (lr {lr:.3g}); lower finetune.lr in params.yaml")
        grad_norm = nn.utils.clip_grad_norm_(parameters, plan.settings.max_grad_norm)
        optimizer.step()
        curve.append(StepRecord(step, epoch, loss, penalty, accuracy, lr, grad_norm.item()))
        on_step(curve[-1])
        if resume and processes.rank == 0 and (step + 1) % resume.interval == 0:
            resume.save(encoder.trained, optimizer, curve)

    trained = {name: parameter.detach().cpu() for name, parameter in encoder.trained.items()}
    if not all(tensor.isfinite().all() for tensor in trained.values()):
        where = f"after the last of {steps} steps"
        raise UserError(f"weights are NaN or infinite {where}; lower finetune.lr in params.yaml")
    return trained, curve


def _batches(data: TrainingData, plan: Plan, processes: Processes) -> tuple[Batches, OtherBatches | None]:
    settings = plan.settings
    size = min(settings.batch_size, len(data.train))
    parts = processes.count * settings.accumulation
    if size < parts:
        raise UserError(
            f"a batch of {size} images cannot be divided among {processes.count} processes with "
            f"{settings.accumulation} micro-batches; lower finetune.processes or finetune.accumulation in params.yaml"
        )
    batches = Batches(data.train, size, settings.crop_padding, plan.seed)
    if plan.regulariser is None or plan.regulariser.others is None:
        return batches, None
    if not data.others:
        raise UserError(f"regulariser {plan.regulariser.name}: no other task is left to take images of; name some")
    return batches, OtherBatches(data.others, plan.regulariser.others, settings.crop_padding, plan.seed)
