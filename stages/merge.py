"""merge@model-paradigm: task vectors whose sum is a recipe's merged one, under the paradigm's name."""

from collections.abc import Sequence

from artifacts import layout
from artifacts.evaluation.benchmarks import read_images
from artifacts.evaluation.edit_spaces import read_encoder, read_vectors
from pipeline.config import MergingImages
from pipeline.io.files import write_json
from pipeline.merging import (
    TaskImages,
    merge_vectors,
    merge_with_images,
    merging_with_images,
    read_steps,
)
from pipeline.models.devices import prepare_device
from tauflow.running.stage import run_stage


def main() -> None:
    """Merge the recipe's task vectors of all tasks, and record how."""
    with run_stage() as stage:
        model, paradigm, recipe = stage.keys("model", "paradigm", "recipe")
        params = stage.params
        settings = params.paradigm[paradigm].merging
        assert settings is not None
        method, modifiers = read_steps(settings, params.paradigm[paradigm].evaluated_in)
        images, device = settings.images, prepare_device(params.device)
        directory = layout.task_vectors(model, paradigm)
        if method.name in merging_with_images.names():
            assert images is not None
            encoder = read_encoder(model).to(device)
            vectors = read_vectors(model, recipe, params.tasks, encoder.sha256)
            merged = merge_with_images(vectors, encoder, _read_images(model, params.tasks, images), method)
            merged.write(directory, paradigm)
            record = merged.record
        else:
            sources = {task: layout.task_vector(model, recipe, task) for task in params.tasks}
            needed = images is not None
            statistics = {task: layout.image_statistics(model, paradigm, task) for task in params.tasks if needed}
            record = merge_vectors(sources, directory, paradigm, method, modifiers, statistics, device)
        write_json(layout.merging_record(model, paradigm), record)
        steps = ", ".join(step.name for step in (method, *modifiers))
        print(f"{stage.name}: {len(params.tasks)} task vectors of {recipe} by {steps}")


def _read_images(model: str, tasks: Sequence[str], settings: MergingImages) -> dict[str, TaskImages]:
    images = {}
    for task in tasks:
        split = read_images(model, task, settings.split)
        chosen = split.sample(settings.count or len(split), settings.seed)
        images[task] = TaskImages(chosen.inputs, chosen.labels, chosen.head)
    return images


if __name__ == "__main__":
    main()
