"""finetune@model-task-paradigm: train the image encoder on one task; its tensors θ and the training curve."""

import time

import typer

from pipeline.devices import prepare_device
from pipeline.models import load_model_definition
from pipeline.models.checkpoints import Provenance, code_fingerprint, read_base, write_tensors
from pipeline.models.encoders import load_image_encoder
from pipeline.models.heads import read_head
from pipeline.paradigms import make_trainable
from pipeline.tasks import read_split
from pipeline.training import StepRecord, finetune, write_curve
from tauflow import layout
from tauflow.stage import run_stage

LOGGED = ("loss", "accuracy", "lr", "grad_norm")


def main(model: str, task: str, paradigm: str) -> None:
    """Train on ``train``; nothing else is read."""
    used = ["finetune", "epochs", "paradigm", "device"]
    with run_stage("finetune", model, task, paradigm, used=used) as stage:
        params = stage.params
        device = prepare_device(params.device)
        pretrained = load_image_encoder(load_model_definition(model), layout.image_encoder(model))
        encoder = make_trainable(pretrained.to(device), params.paradigm[paradigm])
        head = read_head(layout.head(model, task))
        train = read_split(layout.split(task, "train"), len(head.classes))
        _, base_sha256 = read_base(layout.image_encoder(model))
        curve: list[StepRecord] = []
        started = time.perf_counter()

        def on_step(record: StepRecord) -> None:
            curve.append(record)
            rate = params.finetune.batch_size * len(curve) / (time.perf_counter() - started)
            logged = {name: getattr(record, name) for name in LOGGED}
            stage.journal.metrics({**logged, "images_per_second": rate}, record.step)

        trained = finetune(encoder, head, train, params.finetune, params.epochs[task], params.seed, device, on_step)

        space = params.paradigm[paradigm].trained_in
        origin = Provenance(model, (task,), paradigm, space, base_sha256, params.seed, code_fingerprint())
        write_curve(layout.measurements(model, paradigm) / "training" / f"{task}.csv", curve)
        write_tensors(layout.checkpoint(model, paradigm, task), trained, origin)
        print(f"{stage.name}: {len(curve)} steps, last loss {curve[-1].loss:.3f}")


if __name__ == "__main__":
    typer.run(main)
