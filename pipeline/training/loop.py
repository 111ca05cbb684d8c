"""Fine-tuning an image encoder on one task with a frozen head: the loop, from top to bottom."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.io.progress import progress
from pipeline.paradigms import TrainableEncoder
from pipeline.training.batches import make_batches
from pipeline.training.curve import PendingRecords, StepRecord
from pipeline.training.feed import Feed
from pipeline.training.objective import Objective
from pipeline.training.plan import Plan, TrainingData
from pipeline.training.processes import Processes
from pipeline.training.resume import ResumeFile

ALONE = Processes()
# Reading a step's numbers synchronises with the device; on a GPU several steps are read at once.
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
        encoder: the encoder at its start, on ``device``.
        data: the task's training images and head, and the images of other tasks for the regulariser.
        plan: hyper-parameters and seed.
        device: the device to train on.
        on_step: called with the record of every step of this call; on a GPU several steps late.
        resume: the file to save the state to, and to continue from if it holds the state of the same run.
        processes: the processes that share each batch.

    Returns:
        The trained tensors θ by parameter name, on the CPU, and the record of every step.

    Raises:
        UserError: the loss or a weight became NaN or infinite; the regulariser is unknown; a batch is too small to be
            divided.
    """
    batches, others = make_batches(data, plan, processes)
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
    pending = PendingRecords(STEPS_READ_AT_ONCE if on_gpu else 1)

    remaining = feed.iterate(len(curve), steps)
    for step in progress(remaining, "fine-tuning", steps, len(curve), processes.rank == 0):
        lr = plan.learning_rate(step.number, steps)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        losses = objective.backward(step)
        grad_norm = nn.utils.clip_grad_norm_(parameters, plan.settings.max_grad_norm)
        optimizer.step()

        pending.add(step.number, step.epoch, lr, losses, grad_norm)
        done = step.number + 1
        save = resume is not None and done % resume.interval == 0
        if pending.is_full or save or done == steps:
            for record in pending.read():
                _check_finite(record, steps)
                curve.append(record)
                on_step(record)
        if resume and save and processes.rank == 0:
            resume.save(encoder.trained, optimizer, curve)

    trained = {name: parameter.detach().cpu() for name, parameter in encoder.trained.items()}
    if not all(tensor.isfinite().all() for tensor in trained.values()):
        raise UserError(
            f"weights are NaN or infinite after the last of {steps} steps; lower finetune.lr in params.yaml"
        )
    return trained, curve


def _check_finite(record: StepRecord, steps: int) -> None:
    for name, value in (("loss", record.loss), ("penalty", record.penalty)):
        if not math.isfinite(value):
            where = f"at step {record.step} of {steps} (lr {record.lr:.3g})"
            raise UserError(f"{name} is {value} {where}; lower finetune.lr in params.yaml")
