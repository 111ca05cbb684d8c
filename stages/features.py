"""features@model-recipe-split: f₀(x) and J(x) τₜ of every image, from which edits in tangent space are computed."""

from typing import cast

from artifacts import layout
from artifacts.evaluation.edit_spaces import read_tangent_space
from pipeline.editing.features import write_features
from pipeline.images import Split, read_unlabelled
from tauflow.running.stage import run_stage


def main() -> None:
    """Propagate every task vector of a recipe through the linearised encoder, once per image."""
    with run_stage() as stage:
        model, recipe, name = stage.keys("model", "recipe", "split")
        split = cast(Split, name)
        params = stage.params
        space = read_tangent_space(params, model, recipe)
        for task in (*params.tasks, params.control):
            images = read_unlabelled(layout.split(task, split))
            path = layout.features(model, recipe, split, task)
            write_features(path, space, images, {"model": model, "recipe": recipe, "split": split, "task": task})


if __name__ == "__main__":
    main()
