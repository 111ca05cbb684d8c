"""The log file of a stage that ran on a cluster: where it lies, where the stage ran, and why it failed."""

from pathlib import Path

from tauflow.workspace import home

# Begins the line before the output of every attempt; the Ray node follows, and its GPUs.
STARTED = "tauflow: started on "
# What DVC says around a stage, whose own last word is a better one.
DVC_SAYS = ("Running stage '", "> ", "ERROR: failed to reproduce")


def log_file(stage: str) -> Path:
    """Where the output of a stage goes."""
    return home() / ".tauflow" / "logs" / f"{stage.replace('/', '_')}.log"


def attempts(stage: str) -> list[str]:
    """Where each attempt at a stage began: the node, then `GPU` and its GPUs if it has any."""
    path = log_file(stage)
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.removeprefix(STARTED) for line in lines if line.startswith(STARTED)]


def error_line(said: str) -> str | None:
    """The line that says why a stage failed: its one-line error, else its last one, else what DVC says."""
    lines = [line for line in said.splitlines() if line.strip()]
    own = [line for line in lines if not line.startswith(DVC_SAYS)]
    errors = [line for line in own if line.startswith("error: ")]
    return next(iter([*errors[-1:], *own[-1:], *lines[-1:]]), None)
