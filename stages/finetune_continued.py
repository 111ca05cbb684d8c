"""finetune_continued@model-task-recipe: train from another recipe's task vector instead of θ₀, else as the others."""

import typer

from stages.training import USED, train
from tauflow.stage import run_stage


def main(model: str, task: str, recipe: str, start: str) -> None:
    """Train on ``train``, and on the other tasks' unlabelled ``train`` images if the recipe has a regulariser."""
    with run_stage("finetune_continued", model, task, recipe, start, used=USED) as stage:
        others = stage.params.recipe[recipe].others_of(task)
        train(stage.params, stage, model, task, recipe, others, start=start)


if __name__ == "__main__":
    typer.run(main)
