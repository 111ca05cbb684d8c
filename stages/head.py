"""head@model-task: the frozen zero-shot classifier of a task."""

from artifacts import layout
from pipeline.models import load_model_definition
from pipeline.models.devices import prepare_device
from pipeline.models.encoders import load_clip
from pipeline.models.heads import build_head, write_head
from pipeline.tasks import TaskCard
from tauflow.running.stage import run_stage


def main() -> None:
    """Encode the prompts of every class. ImageNet has 80,000, which take minutes to an hour on a CPU."""
    with run_stage() as stage:
        model, task = stage.keys("model", "task")
        device = prepare_device(stage.params.device)
        definition = load_model_definition(model)
        clip = load_clip(definition, layout.image_encoder(model), layout.text_encoder(model)).to(device)
        card = TaskCard.read(layout.task_card(task))
        head = build_head(clip, definition, card.classes, card.templates)
        write_head(layout.head(model, task), head, {"model": model, "task": task, "version": card.version})
        stage.journal.metrics({"classes": len(head.classes)})


if __name__ == "__main__":
    main()
