"""finetune_regularised@model-task-recipe: the same with a regulariser, which may see other tasks' training images."""

import typer

from stages.training import USED, train
from tauflow.stage import run_stage


def main(model: str, task: str, recipe: str) -> None:
    """Train on ``train``, and on the unlabelled ``train`` images of the tasks that the regulariser names."""
    with run_stage("finetune_regularised", model, task, recipe, used=USED) as stage:
        train(stage.params, stage, model, task, recipe, stage.params.recipe[recipe].others_of(task))


if __name__ == "__main__":
    typer.run(main)
