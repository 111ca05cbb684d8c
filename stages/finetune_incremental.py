"""finetune_incremental@model-task-recipe-order: with a regulariser that sees only the tasks that arrived before."""

import typer

from stages.training import USED, train
from tauflow.stage import run_stage


def main(model: str, task: str, recipe: str, order: str) -> None:
    """Train on ``train``, and on the unlabelled ``train`` images of earlier tasks that the regulariser names."""
    used = [*USED, "incremental"]
    with run_stage("finetune_incremental", model, task, recipe, order, used=used) as stage:
        arrivals = stage.params.arrivals[f"order_{order}"]
        before = set(arrivals[: arrivals.index(task)])
        others = [name for name in stage.params.recipe[recipe].others_of(task) if name in before]
        train(stage.params, stage, model, task, recipe, others, order)


if __name__ == "__main__":
    typer.run(main)
