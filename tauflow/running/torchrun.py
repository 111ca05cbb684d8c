"""Run a stage on several processes with torchrun."""

import logging
import os
from typing import TYPE_CHECKING

from pipeline.errors import UserError
from tauflow.tracking.journal import JOURNAL, Journal

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure


def is_worker() -> bool:
    """Return whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def run_on_processes(count: int, module: str, instance: str, journal: Journal) -> None:
    """Run a stage's module on ``count`` processes of this machine; the first of them continues the journal.

    Raises:
        UserError: a process failed; carries its message.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    # torchrun would print a page about the failure.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ[JOURNAL] = str(journal.path)
    try:
        run(parse_args(["--standalone", "--nproc-per-node", str(count), "-m", module, instance]))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise UserError(f"process {rank} of {count} failed: {_message(failure)}") from None
    finally:
        del os.environ[JOURNAL]


def report_failure(error: UserError) -> None:
    """Hand an error of a process that torchrun started to :func:`run_on_processes`, which reports it once."""
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    get_error_handler().record_exception(error)


def _message(failure: "ProcessFailure") -> str:
    """Return the message that :func:`report_failure` left, or how the process ended."""
    message = failure.error_file_data["message"]
    if isinstance(message, dict):
        return str(message["message"]).removeprefix(f"{UserError.__name__}: ")
    return failure.message if failure.exitcode < 0 else f"exit code {failure.exitcode}; the traceback is above"
