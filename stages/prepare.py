"""prepare@task: train, val and test of a task as packed arrays, and its card."""

from artifacts import layout
from pipeline.preparation import Destination, prepare, read_raw
from pipeline.tasks import load_task
from tauflow.running.stage import run_stage


def main() -> None:
    """Cut ``val`` from ``train`` where the source ships none; decode and resize; check labels and duplicates."""
    with run_stage() as stage:
        (task,) = stage.keys("task")
        definition = load_task(task)
        raw = read_raw(definition, layout.raw(task))
        destination = Destination(lambda name: layout.split(task, name), layout.task_card(task))
        card = prepare(definition, raw, destination, stage.params.prepare, task == stage.params.control)
        stage.journal.metrics({f"images.{name}": count for name, count in card.counts.items()})


if __name__ == "__main__":
    main()
