"""What the stages that train share."""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from pipeline.config import Parameters
from pipeline.devices import prepare_device
from pipeline.errors import UserError
from pipeline.models import load_model_definition
from pipeline.models.checkpoints import Provenance, code_fingerprint, read_tensors, write_tensors
from pipeline.models.encoders import load_image_encoder
from pipeline.models.heads import read_head
from pipeline.paradigms import TrainableEncoder, make_trainable
from pipeline.tasks import read_split, read_unlabelled
from pipeline.training import Plan, ResumeFile, StepRecord, TrainingData, finetune, joined, resume_key, write_curve
from tauflow import layout
from tauflow.stage import Stage
from tauflow.torchrun import is_worker, run_on_processes

USED = ["finetune", "epochs", "schedule", "recipe", "device"]
LOGGED = ("loss", "penalty", "accuracy", "lr", "grad_norm")


@dataclass(frozen=True)
class FineTuning:
    """A fine-tuning as the parameters describe it, ready to run."""

    encoder: TrainableEncoder
    data: TrainingData
    plan: Plan
    base_sha256: str


def read_plan(params: Parameters, task: str, recipe: str) -> Plan:
    """What the parameters say of a fine-tuning."""
    schedule, settings = params.schedule[recipe], params.finetune
    return Plan(
        settings=settings,
        lr=settings.lr or schedule.lr,
        epochs=params.epochs[task] * schedule.length,
        seed=params.seed,
        regulariser=params.recipe[recipe].regulariser,
        steps=round(settings.steps * schedule.length) if settings.steps else None,
    )


def read_fine_tuning(
    params: Parameters,
    model: str,
    task: str,
    recipe: str,
    other_tasks: list[str],
    device: torch.device,
    start: str | None = None,
) -> FineTuning:
    """Load what a fine-tuning needs.

    Raises:
        UserError: an input is missing or damaged, or the recipe does not fit the model or what it starts from.
    """
    pretrained = load_image_encoder(load_model_definition(model), layout.image_encoder(model)).to(device)
    tensors = _read_start(layout.task_vector(model, start, task), pretrained.sha256) if start else None
    encoder = make_trainable(pretrained, params.recipe[recipe], tensors)
    head = read_head(layout.head(model, task))
    train = read_split(layout.split(task, "train"), len(head.classes))
    others = {other: read_unlabelled(layout.split(other, "train")) for other in other_tasks}
    plan = read_plan(params, task, recipe)
    return FineTuning(encoder, TrainingData(train, head, others), plan, pretrained.sha256)


def _read_start(path: Path, base_sha256: str) -> dict[str, Tensor]:
    tensors, origin = read_tensors(path)
    if origin.base_sha256 != base_sha256:
        raise UserError(f"{path}: belongs to θ₀ {origin.base_sha256[:12]}, not to {base_sha256[:12]}; run `dvc repro`")
    return tensors


def train(
    params: Parameters,
    stage: Stage,
    model: str,
    task: str,
    recipe: str,
    other_tasks: list[str],
    order: str | None = None,
    start: str | None = None,
) -> None:
    """Fine-tune and write θ and the training curve, here or on the processes of torchrun that share the work.

    Args:
        params: all of them.
        stage: the running instance.
        model, task, recipe: what is trained, and how.
        other_tasks: those whose unlabelled images the regulariser sees.
        order: in which tasks arrive, if not all are there from the start; the recipe is one of its own then.
        start: the recipe whose task vector it starts from, if not from θ₀.

    Raises:
        UserError: an input is missing or damaged, or training fails.
    """
    count = params.finetune.processes
    if count > 1 and not is_worker():
        arguments = [model, task, recipe, *(extra for extra in (order, start) if extra)]
        run_on_processes(count, stage.kind, arguments, stage.journal)
        return
    device = prepare_device(params.device)
    run = read_fine_tuning(params, model, task, recipe, other_tasks, device, start)
    # While no other task has arrived there is nothing to regularise with.
    plan = run.plan if other_tasks or order is None else replace(run.plan, regulariser=None)
    code = code_fingerprint()
    inputs = [layout.image_encoder(model), layout.head(model, task)]
    inputs += [layout.split(name, "train") for name in (task, *other_tasks)]
    inputs += [layout.task_vector(model, start, task)] if start else []
    made_by = params.recipe[recipe]
    key = resume_key({"plan": asdict(plan), "recipe": made_by, "device": device.type, "code": code}, inputs)
    resume = ResumeFile(layout.resume_file(stage.name, key), key, params.resume.interval)
    started, done = time.perf_counter(), 0

    def on_step(record: StepRecord) -> None:
        nonlocal done
        done += 1
        rate = params.finetune.batch_size * done / (time.perf_counter() - started)
        logged = {name: getattr(record, name) for name in LOGGED}
        stage.journal.metrics({**logged, "images_per_second": rate}, record.step)

    with joined() as processes:
        if processes.count != count:
            raise UserError(f"{processes.count} processes share the work, but finetune.processes is {count}")
        trained, curve = finetune(run.encoder, run.data, plan, device, on_step, resume, processes)
        if processes.rank != 0:
            return
    name = layout.incremental_recipe(recipe, order) if order else recipe
    origin = Provenance(model, (task,), name, made_by.trained_in, run.base_sha256, params.seed, code)
    write_curve(layout.training_curve(model, name, task), curve)
    write_tensors(layout.checkpoint(model, name, task), trained, origin)
    resume.delete()
    resumed = f", of which {len(curve) - done} before it was resumed" if done < len(curve) else ""
    print(f"{stage.name}: {len(curve)} steps{resumed}, last loss {curve[-1].loss:.3f}")
