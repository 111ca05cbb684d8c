"""finetune_regularised@model-task-recipe: the same with a regulariser, which may see other tasks' training images."""

import typer

from stages.training import USED, train
from tauflow.stage import run_stage


def main(model: str, task: str, recipe: str) -> None:
    """Train on ``train``, and on the unlabelled ``train`` images of the tasks that the regulariser names."""
    with run_stage("finetune_regularised", model, task, recipe, used=USED) as stage:
        regulariser = stage.params.recipe[recipe].regulariser
        others = regulariser.others.named() if regulariser and regulariser.others else []
        train(stage.params, stage, model, task, recipe, [other for other in others if other != task])


if __name__ == "__main__":
    typer.run(main)
