"""Run the body of a stage with its parameters, one-line errors and a journal for MLflow."""

import gc
import os
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

from artifacts.instances import Instance, read_instances
from artifacts.workspace import PARAMETERS, accept_any_terminal, git
from pipeline.config import Parameters, load_parameters
from pipeline.errors import UserError, escaped, one_line
from tauflow.dvc.guard import guard_lock
from tauflow.dvc.verification import check_inputs
from tauflow.running.preload import CLIENT, dvc_above
from tauflow.running.torchrun import is_worker, report_failure
from tauflow.tracking.journal import JOURNAL, Journal, tracking_error
from tauflow.tracking.times import Stopwatch, record

# Environment variable that names a command with one DVC process per stage, so that they share a parent run.
INVOCATION = "TAUFLOW_INVOCATION"


@dataclass(frozen=True)
class Stage:
    """A running stage instance, ``finetune@mini-clip-mnist-standard``, of the kind ``finetune``."""

    instance: Instance
    params: Parameters
    journal: Journal

    @property
    def name(self) -> str:
        """DVC's name of the instance."""
        return self.instance.name

    def keys(self, *axes: str) -> tuple[str, ...]:
        """Return the model, task, recipe … of the instance, in the order of ``axes``."""
        return tuple(self.instance.keys[axis] for axis in axes)


@contextmanager
def run_stage(instance: str | None = None) -> Iterator[Stage]:
    """Run the body of a stage.

    A :class:`UserError`, and an error of the operating system such as a full disk, becomes one line on stderr and exit
    code 1; any other exception keeps its traceback.

    Args:
        instance: name of the stage instance; by default from the command line or, if DVC runs it, from ``DVC_STAGE``.
    """
    gc.enable()
    accept_any_terminal()
    name = instance or (sys.argv[1] if len(sys.argv) > 1 else os.environ.get("DVC_STAGE", ""))
    own: tuple[Journal, Stopwatch] | None = None
    try:
        if not is_worker():
            guard_lock(Path())
        params = load_parameters(PARAMETERS)
        current, others = _instance(name, params)
        if not is_worker():
            # A stage run by hand may read what another one run by hand has just written, which is not recorded yet.
            check_inputs(map(Path, current.deps), others if "DVC_STAGE" in os.environ else ())
        journal = _shared_journal()
        if journal is None:
            own = _open_journal(current, params)
            journal = own[0]
        started = time.perf_counter()
        yield Stage(current, params, journal)
        if own:
            journal.metrics({"seconds": time.perf_counter() - started})
            _end(*own, "FINISHED")
    except (UserError, OSError) as caught:
        error = caught if isinstance(caught, UserError) else _refused(caught)
        if own:
            with suppress(OSError):
                _end(*own, "FAILED", str(error))
        if is_worker():
            report_failure(error)
        else:
            print(f"error: {escaped(name)}: {error}" if name else f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except BaseException as error:
        if own:
            with suppress(OSError):
                _end(*own, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED", repr(error))
        raise


def _instance(name: str, params: Parameters) -> tuple[Instance, Collection[str]]:
    """Return a stage instance, and the names of all."""
    instances = read_instances(params)
    if name not in instances:
        problem = f"params.yaml spans no stage {name!r}" if name else "name the stage instance to run"
        raise UserError(f"{problem}; `dvc stage list` shows them")
    return instances[name], instances.keys()


def _shared_journal() -> Journal | None:
    """Return the journal shared by the processes of a stage; all but the first discard their lines."""
    if is_worker() and os.environ["RANK"] != "0":
        return Journal(Path(os.devnull))
    return Journal(Path(os.environ[JOURNAL])) if JOURNAL in os.environ else None


def _refused(error: OSError) -> UserError:
    """Return an error of the operating system as a message for the user."""
    where = str(error.filename) if error.filename is not None else "a file or connection"
    return UserError(
        f"{where}: {one_line(error.strerror or error)}; check the free space and the permissions of the disk"
    )


def _end(journal: Journal, stopwatch: Stopwatch, status: str, error: str | None = None) -> None:
    journal.append("end", status=status, error=error)
    record(stopwatch.end(status))
    reason = tracking_error()
    if reason:
        print(f"warning: not logged to MLflow, kept for `tauflow track`: {reason}", file=sys.stderr)


def _open_journal(instance: Instance, params: Parameters) -> tuple[Journal, Stopwatch]:
    """Begin a stage's journal, and start to measure its time."""
    client = psutil.Process(int(os.environ[CLIENT])) if CLIENT in os.environ else None
    dvc = dvc_above(client or psutil.Process())
    invocation, title = _invocation(dvc)
    stopwatch = Stopwatch.begin(instance.name, params.suite, invocation, client, dvc)
    journal = Journal.open(
        name=instance.name,
        root=str(Path.cwd()),
        suite=params.suite,
        params={"seed": params.seed},
        tags={
            "tauflow.stage": instance.stage,
            "dvc.stage": instance.name,
            **{f"tauflow.{axis}": value for axis, value in instance.keys.items()},
        },
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
    return journal, stopwatch


def _invocation(dvc: psutil.Process | None) -> tuple[str, str]:
    """Return an identifier and a name of this pipeline invocation.

    An invocation is a DVC experiment, a command that starts many DVC processes, the DVC process above this one, or
    this process, in this order.
    """
    experiment = os.environ.get("DVC_EXP_NAME")
    if experiment:
        return f"experiment {experiment} {os.environ.get('DVC_EXP_BASELINE_REV', '')}".strip(), experiment
    if INVOCATION in os.environ:
        return os.environ[INVOCATION], os.environ[INVOCATION]
    process = dvc or psutil.Process(int(os.environ.get(CLIENT, os.getpid())))
    began = datetime.fromtimestamp(process.create_time())
    return f"process {process.pid} {process.create_time()}", f"dvc repro {began:%Y-%m-%d %H:%M}"


def _git_revision() -> str | None:
    revision = git("rev-parse", "HEAD")
    return revision.decode().strip() if revision else None
