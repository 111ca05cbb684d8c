"""``tauflow doctor``: check the environment."""

import typer
from rich.console import Console
from rich.text import Text

_STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


def doctor() -> None:
    """Check this machine and repository and report what to fix; exit code 1 if something will fail.

    Checks Python, the packages against requirements.lock, torch and GPUs, disk, git and its identity, params.yaml,
    DVC and its remote, MLflow and the Hugging Face hub. Servers have 5 seconds to answer; offline is only a warning.

    For example: `tauflow doctor`, or `HF_ENDPOINT=https://mirror.example tauflow doctor`.
    """
    from tauflow.doctor import Severity, examine  # imports much of DVC

    console = Console(soft_wrap=True, highlight=False)
    failed = False
    for finding in examine():
        failed |= finding.severity is Severity.error
        to_do = f"; {finding.to_do}" if finding.to_do else ""
        severity = Text(f"{finding.severity:<8}", style=_STYLES[finding.severity])
        console.print(severity + Text(f"{finding.subject}: {finding.detail}{to_do}"))
    raise typer.Exit(int(failed))
