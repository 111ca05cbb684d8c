"""download@task: the original images of a task from any source, and a record of them for git."""

from pathlib import Path

from artifacts import layout
from pipeline.sources.download import Roots, download
from pipeline.sources.record import DownloadRecord
from pipeline.tasks import load_task
from tauflow.running.stage import run_stage


def main() -> None:
    """Fetch every split that the source ships, and check the files against an earlier record."""
    with run_stage() as stage:
        (task,) = stage.keys("task")
        known = DownloadRecord.read(layout.record(task))
        roots = Roots(Path(), layout.MINI_SOURCES)
        record = download(load_task(task), roots, layout.raw(task), known)
        record.write(layout.record(task))
        stage.journal.metrics({"bytes": sum(file.bytes for file in record.files.values())})


if __name__ == "__main__":
    main()
