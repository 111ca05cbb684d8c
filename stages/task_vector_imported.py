"""task_vector_imported@model-task-recipe: a task vector from `tauflow import` or `import-pool`, checked."""

from artifacts import layout
from pipeline.editing import read_task_vector, write_task_vector
from pipeline.errors import UserError
from pipeline.models.checkpoints import read_base
from tauflow.running.stage import run_stage


def main() -> None:
    """Copy the task vector after checking that it belongs to this model and task."""
    with run_stage() as stage:
        model, task, recipe = stage.keys("model", "task", "recipe")
        path = layout.imported(model, recipe, task)
        if not path.exists():
            raise UserError(
                f"{path}: no such file; make it with `tauflow import` or `tauflow import-pool`, or restore it with "
                "`dvc pull`"
            )
        vector, (base, base_sha256) = read_task_vector(path), read_base(layout.image_encoder(model))
        origin = vector.provenance
        if origin.base_sha256 != base_sha256:
            raise UserError(
                f"{path}: belongs to θ₀ {origin.base_sha256[:12]}, not to {base_sha256[:12]} in "
                f"{layout.image_encoder(model)}; import it again"
            )
        if origin.tasks != (task,):
            raise UserError(f"{path}: is of {', '.join(origin.tasks)} and not of {task}; import it again")
        trained_in = stage.params.imported[recipe].trained_in
        if origin.space != trained_in:
            raise UserError(f"{path}: was trained in {origin.space} space, but imported.{recipe} says {trained_in}")
        vector.check_fits(base)
        write_task_vector(layout.task_vector(model, recipe, task), vector)
        stage.journal.metrics({"norm": vector.norm(), "parameters": sum(t.numel() for t in vector.tensors.values())})


if __name__ == "__main__":
    main()
