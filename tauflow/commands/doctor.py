"""``tauflow doctor``: what is missing here, and what to do about it."""

import typer
from rich.console import Console
from rich.text import Text

_STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


def doctor() -> None:
    """Check this machine and repository and say what to fix; exit code 1 if something will fail.

    Looks at Python, the packages against requirements.lock, torch and GPUs, disk, git, params.yaml, DVC and its
    remote, MLflow and the Hugging Face hub. What needs a network is asked briefly; being offline is only a warning.

    For example: `tauflow doctor`, or `HF_ENDPOINT=https://mirror.example tauflow doctor`.
    """
    from tauflow.doctor import Status, examine  # imports a good part of DVC

    console = Console(soft_wrap=True, highlight=False)
    failed = False
    for finding in examine():
        failed |= finding.status is Status.error
        to_do = f"; {finding.to_do}" if finding.to_do else ""
        status = Text(f"{finding.status:<8}", style=_STYLES[finding.status])
        console.print(status + Text(f"{finding.subject}: {finding.found}{to_do}"))
    raise typer.Exit(int(failed))
