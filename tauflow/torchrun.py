"""Running one stage on several processes with torchrun."""

import os
import subprocess
import sys

from pipeline.errors import UserError
from tauflow.journal import JOURNAL, Journal


def is_worker() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def run_on_processes(count: int, stage: str, arguments: list[str], journal: Journal) -> None:
    """Run ``python -m stages.<stage>`` on ``count`` processes of this machine; the first goes on with the journal.

    Raises:
        UserError: one of them failed; it has said why.
    """
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    environment = {**os.environ, JOURNAL: str(journal.path)}
    code = subprocess.run([*launch, "-m", f"stages.{stage}", *arguments], env=environment, check=False).returncode
    if code != 0:
        raise UserError(f"one of {count} processes failed (torchrun's exit code is {code}); its message is above")
