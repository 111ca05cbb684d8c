"""download@task: the original images of a task, whatever their source, and a record of them that git keeps."""

from pathlib import Path

import typer

from pipeline.sources.download import Roots, download
from pipeline.sources.record import Record
from pipeline.tasks import load_task
from tauflow import layout
from tauflow.stage import run_stage


def main(task: str) -> None:
    """Fetch every split that the source ships; what was recorded before must come again."""
    with run_stage("download", task) as stage:
        known = Record.read(layout.record(task))
        roots = Roots(Path(), layout.MINI_SOURCES)
        record = download(load_task(task), roots, layout.raw(task), known)
        record.write(layout.record(task))
        stage.journal.metrics({"bytes": sum(file.bytes for file in record.files.values())})


if __name__ == "__main__":
    typer.run(main)
