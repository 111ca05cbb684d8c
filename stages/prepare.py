"""prepare@task: train, val and test of a task as packed arrays, and its card."""

import typer

from pipeline.tasks import TaskCard, load_task, prepare_splits, read_split, write_split
from tauflow import layout
from tauflow.stage import run_stage


def main(task: str) -> None:
    """Cut ``val`` from ``train`` where the source ships none; check labels and duplicates."""
    with run_stage("prepare", task, used=["prepare"]) as stage:
        definition = load_task(task)
        raw = {
            path.stem: read_split(path, len(definition.classes))
            for path in sorted(layout.raw(task).glob("*.safetensors"))
        }
        splits = prepare_splits(raw, definition, stage.params.prepare)
        for name, images in splits.items():
            write_split(layout.split(task, name), images, {"task": task, "version": definition.version, "split": name})
        card = TaskCard.of(definition, splits)
        card.write(layout.task_card(task))
        stage.journal.metrics({f"images.{name}": count for name, count in card.counts.items()})


if __name__ == "__main__":
    typer.run(main)
