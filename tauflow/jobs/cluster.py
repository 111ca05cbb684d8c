"""Run stages on Ray, started locally for the command, or on a running cluster with a shared file system.

A Ray task runs one stage in a separate process (:mod:`tauflow.jobs.attempt`). Ray chooses the machine, leases GPUs, and
restarts the task when its worker or machine dies.
"""

import logging
import math
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.workspace import program_path
from pipeline.errors import UserError
from tauflow.jobs.queue import Job, Status
from tauflow.jobs.schedule import JobResult
from tauflow.running.preload import OWNER
from tauflow.tracking.attempts import STARTED, error_line, log_file

if TYPE_CHECKING:
    from ray import ObjectRef

# Maximum number of restarts of a stage whose worker or machine died.
RETRIES = 3
POLL_SECONDS = 0.5
CONNECT_SECONDS = 10.0
# Stages exchange files, not objects; Ray would take a third of the memory.
OBJECT_STORE_BYTES = 100_000_000
GPUS = "CUDA_VISIBLE_DEVICES"
# A worker that Ray ends kills its child before that can end its own children. So the child is this relay.
RELAY = ("/bin/sh", "-c", '"$@"; exit "$?"', "sh")
# Exit codes if the relay, or its child, was killed.
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)


@dataclass(frozen=True)
class Command:
    """Settings that all jobs of a command share.

    root: the repository.
    environment: the command's environment variables.
    options: options for `dvc repro`.
    """

    root: Path
    environment: Mapping[str, str]
    options: Sequence[str]


@dataclass
class Cluster:
    """A connection to Ray. ``gpus``: number of GPUs leased to a stage that runs on a device."""

    command: Command
    gpus: float
    running: "dict[ObjectRef[JobResult], str]" = field(default_factory=dict)

    def start(self, job: Job) -> None:
        """Submit a job to Ray."""
        import ray

        log_file(job.name).unlink(missing_ok=True)
        gpus = self.gpus if job.gpu else 0
        # Ray would end the worker after a GPU task to free its memory, but the stage runs in a separate process.
        remote = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD", max_calls=0)(run_job)
        self.running[remote.options(num_gpus=gpus, name=job.name).remote(self.command, job.name, gpus > 0)] = job.name

    def wait(self) -> dict[str, JobResult]:
        """Wait briefly, and return the result of at most one job that has ended."""
        import ray

        ended, _ = ray.wait(list(self.running), num_returns=1, timeout=POLL_SECONDS)
        return {self.running.pop(reference): _result(reference) for reference in ended}


def check_installed() -> None:
    """Check that Ray, which is optional, is installed.

    Raises:
        UserError: Ray is not installed.
    """
    if find_spec("ray") is None:
        raise UserError("--jobs needs Ray, which is not installed; run `pip install ray`")


@contextmanager
def connect(address: str | None, jobs: int) -> Iterator[None]:
    """Connect to Ray; jobs of this command end with the connection.

    Args:
        address: address of a running cluster, or ``auto``; ``None`` starts Ray here, for this command only.
        jobs: number of stages that a Ray started here runs at once.

    Raises:
        UserError: the cluster does not answer, or Ray does not start.
    """
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"})
    options: dict[str, Any] = {"address": address}
    if address is None:
        # Ray listens only on the loopback interface if clusters are disabled. Every user of the machine could still
        # connect, so a token is required.
        os.environ.update({"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"})
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        # Ray would run stages at the lowest priority, at which other work on the machine starves them.
        os.environ.setdefault("RAY_worker_niceness", "0")
        options = {"address": "local", "num_cpus": jobs, "object_store_memory": OBJECT_STORE_BYTES}
        options["include_dashboard"] = False
    import ray

    try:
        if address is not None:
            _check_reachable(address)
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises many: wrong address, no cluster, version mismatch
        problem = "a local Ray did not start" if address is None else f"--address {address}: no Ray cluster to use"
        raise UserError(f"{problem}: {_first_line(error)}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Check that a cluster accepts connections; Ray itself would retry for minutes."""
    from ray._private.services import canonicalize_bootstrap_address

    resolved = canonicalize_bootstrap_address(address)
    if resolved is None:
        raise ConnectionError("no cluster runs here; give the HOST:PORT that `ray start` printed")
    host, _, port = resolved.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


def gpu_slots(gpus_per_stage: float | None) -> tuple[float, int]:
    """Return the number of GPUs leased to a stage, and the number of stages that can hold a lease at once.

    In a cluster without GPUs none are leased, and the number of stages is unlimited.

    Raises:
        UserError: no machine has enough GPUs, or none has a CPU.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= 1 for node in nodes):
        raise UserError("the Ray cluster has no CPUs to run stages on; start its nodes with --num-cpus")
    available = [node.get("GPU", 0.0) for node in nodes]
    gpus = (1 if gpus_per_stage is None else gpus_per_stage) if any(available) else 0
    if gpus == 0:
        return 0, sys.maxsize
    slots = sum(math.floor(number / gpus) for number in available)
    if not slots:
        raise UserError(f"--gpus-per-stage {gpus:g}: no machine of the cluster has more than {max(available):g} GPUs")
    return gpus, slots


def machine_names() -> dict[str, str]:
    """Return display names of the cluster's nodes by node ID: host names, numbered if a host runs several nodes."""
    import ray

    hosts = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes()}
    shared = {host for host in hosts.values() if list(hosts.values()).count(host) > 1}
    return {node: f"{host}/{node[:6]}" if host in shared else host for node, host in hosts.items()}


def run_job(command: Command, stage: str, leased: bool) -> JobResult:
    """Run one stage in a process that ends with this one; the body of the Ray task."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    if not command.root.is_dir():
        return JobResult(
            Status.FAILED, error=f"{socket.gethostname()} has no {command.root}; all machines must share it"
        )
    gpus = os.environ.get(GPUS, "") if leased else None
    argv = [*RELAY, sys.executable, "-m", "tauflow.jobs.attempt", stage, *command.options]
    os.chdir(command.root)
    log = log_file(stage)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        output.write(f"{STARTED}{node}{f' GPU {gpus}' if gpus else ''}\n".encode())
        output.flush()
        began, offset = time.monotonic(), output.tell()
        # The pipe to its standard input closes when this process ends, even if killed.
        process = subprocess.Popen(
            argv,
            env=_environment(command.environment, gpus),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        code = process.wait()
        if code in KILLED:  # its child processes still run
            _kill_session(process.pid)
    printed = log.read_bytes()[offset:].decode("utf-8", "replace")
    seconds = time.monotonic() - began
    if code:
        return JobResult(Status.FAILED, seconds, error_line(printed) or f"exit code {code}")
    return JobResult(_status(printed), seconds)


def _kill_session(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _environment(environment: Mapping[str, str], gpus: str | None) -> dict[str, str]:
    """Return the command's environment, not the worker's: Ray sets OMP_NUM_THREADS, which changes results."""
    path = program_path(environment.get("PATH", os.defpath))
    leased = {} if gpus is None else {GPUS: gpus}
    return {**environment, **leased, "PATH": path, OWNER: str(os.getpid())}


def _status(output: str) -> Status:
    if re.search(r"^Stage '.*' didn't change, skipping$", output, re.MULTILINE):
        return Status.UNCHANGED
    if re.search(r"^Stage '.*' is cached - skipping run", output, re.MULTILINE):
        return Status.RESTORED
    return Status.RAN


def _result(reference: "ObjectRef[JobResult]") -> JobResult:
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(reference)
    except RayTaskError as error:  # such as a full disk
        return JobResult(Status.FAILED, error=repr(error.cause))
    except RayError as error:
        return JobResult(Status.FAILED, error=f"its worker died {RETRIES + 1} times: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
