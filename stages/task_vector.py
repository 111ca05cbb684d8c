"""task_vector@model-task-recipe: τ = θ − θ₀."""

from artifacts import layout
from pipeline.editing import TaskVector, write_task_vector
from pipeline.errors import UserError
from pipeline.models.checkpoints import read_base, read_tensors
from tauflow.running.stage import run_stage


def main() -> None:
    """Subtract θ₀ from the checkpoint."""
    with run_stage() as stage:
        model, task, recipe = stage.keys("model", "task", "recipe")
        base, base_sha256 = read_base(layout.image_encoder(model))
        path = layout.checkpoint(model, recipe, task)
        trained, origin = read_tensors(path)
        if origin.base_sha256 != base_sha256:
            raise UserError(
                f"{path}: was trained from θ₀ {origin.base_sha256[:12]}, not from {base_sha256[:12]} in "
                f"{layout.image_encoder(model)}; train it again with `dvc repro`"
            )
        vector = TaskVector.between(base, trained, origin)
        write_task_vector(layout.task_vector(model, recipe, task), vector)
        stage.journal.metrics({"norm": vector.norm(), "parameters": sum(t.numel() for t in vector.tensors.values())})


if __name__ == "__main__":
    main()
