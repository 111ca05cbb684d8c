"""finetune@model-task-recipe: train the image encoder on one task; write its tensors θ and the training curve.

The stages `finetune_regularised` and `finetune_continued`, which depend on more files, run this script too.
"""

import time
from dataclasses import asdict

from artifacts import layout
from artifacts.fine_tuning import read_fine_tuning
from pipeline.errors import UserError
from pipeline.models.checkpoints import Provenance, code_fingerprint, write_tensors
from pipeline.models.devices import prepare_device
from pipeline.training import ResumeFile, StepRecord, count_images, finetune, joined, resume_key, write_curve
from tauflow.running.stage import run_stage
from tauflow.running.torchrun import is_worker, run_on_processes

LOGGED = ("loss", "penalty", "accuracy", "lr", "grad_norm")


def main() -> None:
    """Train on ``train``, and on other tasks' unlabelled ``train`` images if the recipe's regulariser sees them."""
    with run_stage() as stage:
        model, task, recipe = stage.keys("model", "task", "recipe")
        params, settings = stage.params, stage.params.finetune
        if settings.processes > 1 and not is_worker():
            run_on_processes(settings.processes, "stages.finetune", stage.name, stage.journal)
            return
        device = prepare_device(params.device)
        run = read_fine_tuning(params, model, task, recipe, device)
        made_by, code = params.derived.recipe[recipe], code_fingerprint()
        described = {"plan": asdict(run.plan), "recipe": made_by, "device": device.type, "code": code}
        key = resume_key(described, run.inputs)
        resume = ResumeFile(layout.resume_file(stage.name, key), key, params.resume.interval)
        started, done = time.perf_counter(), 0

        with joined() as processes:
            if processes.count != settings.processes:
                raise UserError(
                    f"{processes.count} processes share the work, but finetune.processes is {settings.processes}"
                )
            total, size = len(run.data.train), settings.batch_size

            def on_step(record: StepRecord) -> None:
                nonlocal done
                done += 1
                images, before = (
                    count_images(total, size, steps) for steps in (record.step + 1, record.step + 1 - done)
                )
                rate = (images - before) / (time.perf_counter() - started)
                logged = {name: getattr(record, name) for name in LOGGED}
                stage.journal.metrics({**logged, "images": images, "images_per_second": rate}, record.step)

            trained, curve = finetune(run.encoder, run.data, run.plan, device, on_step, resume, processes)
            if processes.rank != 0:
                return
        origin = Provenance(model, (task,), recipe, made_by.trained_in, run.base_sha256, params.seed, code)
        write_curve(layout.training_curve(model, recipe, task), curve)
        write_tensors(layout.checkpoint(model, recipe, task), trained, origin)
        resume.delete()
        resumed = f", {len(curve) - done} of them before it was resumed" if done < len(curve) else ""
        print(f"{stage.name}: {len(curve)} steps{resumed}, last loss {curve[-1].loss:.3f}")


if __name__ == "__main__":
    main()
