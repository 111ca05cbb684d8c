"""download@task: the original images of a task, whatever their source."""

import typer

from pipeline.sources.download import download
from pipeline.tasks import load_task, write_split
from tauflow import layout
from tauflow.stage import run_stage


def main(task: str) -> None:
    """Write one file per split that the source ships."""
    with run_stage("download", task) as stage:
        definition = load_task(task)
        splits = download(definition, layout.MINI_SOURCES)
        for name, images in splits.items():
            path = layout.raw(task) / f"{name}.safetensors"
            write_split(path, images, {"task": task, "version": definition.version, "split": name})
        stage.journal.metrics({f"images.{name}": len(images) for name, images in splits.items()})


if __name__ == "__main__":
    typer.run(main)
