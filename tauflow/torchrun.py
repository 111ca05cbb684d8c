"""Running one stage on several processes with torchrun."""

import logging
import os
from typing import TYPE_CHECKING

from pipeline.errors import UserError
from tauflow.journal import JOURNAL, Journal

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure


def is_worker() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def run_on_processes(count: int, stage: str, arguments: list[str], journal: Journal) -> None:
    """Run ``python -m stages.<stage>`` on ``count`` processes of this machine; the first goes on with the journal.

    Raises:
        UserError: one of them failed; its message.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    # Its own report of a failure is a page long.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ[JOURNAL] = str(journal.path)
    try:
        run(parse_args(["--standalone", "--nproc-per-node", str(count), "-m", f"stages.{stage}", *arguments]))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise UserError(f"process {rank} of {count} failed: {_message(failure)}") from None
    finally:
        del os.environ[JOURNAL]


def report_failure(error: UserError) -> None:
    """Leave the message of a process that torchrun started to :func:`run_on_processes`, which says it once."""
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    get_error_handler().record_exception(error)


def _message(failure: "ProcessFailure") -> str:
    """What :func:`report_failure` left, or how the process ended."""
    said = failure.error_file_data["message"]
    if isinstance(said, dict):
        return str(said["message"]).removeprefix(f"{UserError.__name__}: ")
    return failure.message if failure.exitcode < 0 else f"exit code {failure.exitcode}; the traceback is above"
