"""head@model-task: the frozen zero-shot classifier of a task."""

import typer

from pipeline.devices import prepare_device
from pipeline.models import load_model_definition
from pipeline.models.encoders import load_clip
from pipeline.models.heads import build_head, write_head
from pipeline.tasks import TaskCard
from tauflow import layout
from tauflow.stage import run_stage


def main(model: str, task: str) -> None:
    """Encode the prompts of every class; always on the CPU, where it takes moments and is the same everywhere."""
    with run_stage("head", model, task) as stage:
        prepare_device("cpu")
        definition = load_model_definition(model)
        clip = load_clip(definition, layout.image_encoder(model), layout.text_encoder(model))
        card = TaskCard.read(layout.task_card(task))
        head = build_head(clip, definition, card)
        write_head(layout.head(model, task), head, {"model": model, "task": task, "version": card.version})
        stage.journal.metrics({"classes": len(head.classes)})


if __name__ == "__main__":
    typer.run(main)
