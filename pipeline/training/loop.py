"""Fine-tuning an image encoder on one task, head frozen: the loop, from top to bottom."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.paradigms import TrainableEncoder
from pipeline.progress import progress
from pipeline.training.batches import Batches, OtherBatches
from pipeline.training.curve import Readings, StepRecord
from pipeline.training.feed import Feed
from pipeline.training.objective import Objective
from pipeline.training.plan import Plan, TrainingData
from pipeline.training.processes import Processes
from pipeline.training.resume import ResumeFile

ALONE = Processes()
# On a GPU. Whoever reads the numbers of a step waits for it.
STEPS_READ_AT_ONCE = 20


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
        on_step: called with every step that this call makes; on a GPU with some of them at once.
        resume: where to continue from, if it holds the state of the same run, and where to save it.
        processes: those that share each batch.

    Returns:
        The trained tensors θ by parameter name, on the CPU, and the record of every step.

    Raises:
        UserError: the loss or a weight is no number any more; the regulariser is unknown; a batch is too small to
            be divided.
    """
    batches, others = _batches(data, plan, processes)
    steps = plan.count_steps(batches.per_epoch)
    if plan.settings.checkpointing:
        encoder.checkpoint_activations()
    if plan.settings.compile:
        encoder.compile_forward()
    objective = Objective(encoder, data.head, plan, device, processes)
    feed = Feed(batches, others, plan.settings.augmentation, encoder.image_size, device, processes)
    parameters = list(encoder.trained.values())
    on_gpu = device.type == "cuda"
    optimizer = torch.optim.AdamW(
        parameters, lr=plan.lr, weight_decay=plan.settings.weight_decay, fused=True if on_gpu else None
    )
    curve = resume.load(encoder.trained, optimizer) if resume else []
    readings = Readings(at_once=STEPS_READ_AT_ONCE if on_gpu else 1)

    coming = feed.iterate(len(curve), steps)
    for data_of_step in progress(coming, "fine-tuning", steps, len(curve), processes.rank == 0):
        step = data_of_step.step
        lr = plan.learning_rate(step, steps)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        penalty = objective.penalise(data_of_step.others)
        loss, accuracy = objective.learn(data_of_step.own)
        grad_norm = nn.utils.clip_grad_norm_(parameters, plan.settings.max_grad_norm)
        optimizer.step()

        sums = processes.total(torch.stack([loss, accuracy, penalty]))
        readings.add(step, data_of_step.epoch, lr, torch.cat([sums, grad_norm.double()[None]]))
        saving = resume is not None and (step + 1) % resume.interval == 0
        if readings.due or saving or step + 1 == steps:
            for record in readings.read():
                _check(record, steps)
                curve.append(record)
                on_step(record)
        if resume and saving and processes.rank == 0:
            resume.save(encoder.trained, optimizer, curve)

    trained = {name: parameter.detach().cpu() for name, parameter in encoder.trained.items()}
    if not all(tensor.isfinite().all() for tensor in trained.values()):
        where = f"after the last of {steps} steps"
        raise UserError(f"weights are NaN or infinite {where}; lower finetune.lr in params.yaml")
    return trained, curve


def _check(record: StepRecord, steps: int) -> None:
    if math.isfinite(record.loss + record.penalty):
        return
    said = f"penalty is {record.penalty}" if math.isfinite(record.loss) else f"loss is {record.loss}"
    where = f"at step {record.step} of {steps} (lr {record.lr:.3g})"
    raise UserError(f"{said} {where}; lower finetune.lr in params.yaml")


def _batches(data: TrainingData, plan: Plan, processes: Processes) -> tuple[Batches, OtherBatches | None]:
    settings = plan.settings
    size = min(settings.batch_size, len(data.train))
    parts = processes.count * settings.accumulation
    if size < parts:
        raise UserError(
            f"a batch of {size} images cannot be divided among {processes.count} processes with "
            f"{settings.accumulation} micro-batches; lower finetune.processes or finetune.accumulation in params.yaml"
        )
    batches = Batches(data.train, size, settings.augmentation, plan.seed)
    if plan.regulariser is None or plan.regulariser.others is None:
        return batches, None
    if not data.others:
        raise UserError(f"regulariser {plan.regulariser.name}: no other task is left to take images of; name some")
    return batches, OtherBatches(data.others, plan.regulariser.others, settings.augmentation, plan.seed)
