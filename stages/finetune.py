"""finetune@model-task-recipe: train the image encoder on one task; its tensors θ and the training curve."""

import typer

from stages.training import USED, train
from tauflow.stage import run_stage


def main(model: str, task: str, recipe: str) -> None:
    """Train on ``train``; nothing else is read."""
    with run_stage("finetune", model, task, recipe, used=USED) as stage:
        train(stage.params, stage, model, task, recipe, [])


if __name__ == "__main__":
    typer.run(main)
