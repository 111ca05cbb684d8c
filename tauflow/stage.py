"""What surrounds every stage: parameters, one-line errors, the journal for MLflow."""

import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

from pipeline.config import Parameters, load_parameters
from pipeline.errors import UserError
from tauflow.journal import JOURNAL, Journal, error_file
from tauflow.lockfile import flatten
from tauflow.preload import CLIENT, dvc_above
from tauflow.torchrun import is_worker, report_failure
from tauflow.workspace import PARAMETERS

# What a command that starts a DVC process per stage calls itself: one parent run for all.
INVOCATION = "TAUFLOW_INVOCATION"


@dataclass(frozen=True)
class Stage:
    """A running instance of a stage: ``finetune@mini-clip-mnist-standard``, of the kind ``finetune``."""

    kind: str
    name: str
    params: Parameters
    journal: Journal


@contextmanager
def run_stage(name: str, *keys: str, used: Sequence[str] = ()) -> Iterator[Stage]:
    """Run the body of a stage.

    A :class:`UserError` becomes one line on stderr and exit code 1; any other exception keeps its traceback.

    Args:
        name: the stage in ``dvc.yaml``.
        keys: the matrix values of this instance, in the order of the matrix.
        used: the top-level parameters that the run is described by in MLflow.
    """
    gc.enable()
    # DVC's own name for it where DVC runs it: two blocks of dvc.yaml may share a script.
    instance = os.environ.get("DVC_STAGE") or (f"{name}@{'-'.join(keys)}" if keys else name)
    own: Journal | None = None
    try:
        params = load_parameters(PARAMETERS)
        journal = _shared_journal()
        if journal is None:
            journal = own = _open_journal(name, instance, keys, params, used)
        started = time.perf_counter()
        yield Stage(name, instance, params, journal)
        if own:
            own.metrics({"seconds": time.perf_counter() - started})
            _end(own, "FINISHED")
    except UserError as error:
        if own:
            _end(own, "FAILED", str(error))
        if is_worker():
            report_failure(error)
        else:
            print(f"error: {instance}: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except BaseException as error:
        if own:
            _end(own, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED", repr(error))
        raise


def _shared_journal() -> Journal | None:
    """The journal of a process that shares a stage with others: the stage's own for the first, none for the rest."""
    if is_worker() and os.environ["RANK"] != "0":
        return Journal(Path(os.devnull))
    return Journal(Path(os.environ[JOURNAL])) if JOURNAL in os.environ else None


def _end(journal: Journal, status: str, error: str | None = None) -> None:
    journal.append("end", status=status, error=error)
    if error_file().exists():
        reason = error_file().read_text(encoding="utf-8").strip()
        print(f"warning: not logged to MLflow, kept for `tauflow track`: {reason}", file=sys.stderr)


def _open_journal(name: str, instance: str, keys: Sequence[str], params: Parameters, used: Sequence[str]) -> Journal:
    invocation, title = _invocation()
    return Journal.open(
        name=instance,
        root=str(Path.cwd()),
        suite=params.suite,
        params=dict(flatten(params.model_dump(mode="json", include={*used, "seed"}))),
        tags={"tauflow.stage": name, "dvc.stage": instance, "tauflow.keys": " ".join(keys)},
        invocation=invocation,
        invocation_name=title,
        invocation_tags={
            tag: os.environ[variable]
            for tag, variable in (
                ("dvc.experiment", "DVC_EXP_NAME"),
                ("dvc.baseline", "DVC_EXP_BASELINE_REV"),
            )
            if variable in os.environ
        },
        revision=_git_revision(),
    )


def _invocation() -> tuple[str, str]:
    """What identifies this pipeline invocation, and what to call it.

    That is the DVC experiment, else what the command that started many DVC processes calls itself, else the DVC process
    above this one, else this process.
    """
    experiment = os.environ.get("DVC_EXP_NAME")
    if experiment:
        return f"experiment {experiment} {os.environ.get('DVC_EXP_BASELINE_REV', '')}".strip(), experiment
    if INVOCATION in os.environ:
        return os.environ[INVOCATION], os.environ[INVOCATION]
    process = psutil.Process(int(os.environ.get(CLIENT, os.getpid())))
    process = dvc_above(process) or process
    began = datetime.fromtimestamp(process.create_time())
    return f"process {process.pid} {process.create_time()}", f"dvc repro {began:%Y-%m-%d %H:%M}"


def _git_revision() -> str | None:
    result = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else None
