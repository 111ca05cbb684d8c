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
    """Encode the prompts of every class: ImageNet's are 80,000, which takes minutes to an hour on a CPU."""
    with run_stage("head", model, task, used=["device"]) as stage:
        device = prepare_device(stage.params.device)
        definition = load_model_definition(model)
        clip = load_clip(definition, layout.image_encoder(model), layout.text_encoder(model)).to(device)
        card = TaskCard.read(layout.task_card(task))
        head = build_head(clip, definition, card)
        write_head(layout.head(model, task), head, {"model": model, "task": task, "version": card.version})
        stage.journal.metrics({"classes": len(head.classes)})


if __name__ == "__main__":
    typer.run(main)
