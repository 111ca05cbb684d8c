"""features@model-recipe-split: f₀(x) and J(x) τₜ of every image, which edits in tangent space are made of."""

from typing import Literal

import typer

from pipeline.editing.features import write_features
from pipeline.tasks import read_unlabelled
from stages.edits import read_tangent_space
from tauflow import layout
from tauflow.stage import run_stage


def main(model: str, recipe: str, split: Literal["val", "test"]) -> None:
    """Propagate every task vector of a recipe through the linearised encoder, once per image."""
    with run_stage("features", model, recipe, split, used=["tasks", "control", "evaluation"]) as stage:
        params = stage.params
        space = read_tangent_space(params, model, recipe)
        for task in (*params.tasks, params.control):
            images = read_unlabelled(layout.split(task, split))
            path = layout.features(model, recipe, split, task)
            settings = params.evaluation
            write_features(path, space, images, settings.batch_size, settings.directions)


if __name__ == "__main__":
    typer.run(main)
