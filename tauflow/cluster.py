"""Stages on Ray: a local one started for the command, or a running cluster over a shared file system.

A Ray task runs one stage in a process of its own (:mod:`tauflow.attempt`). Ray chooses the machine, leases GPUs, and
starts the task again when its worker or machine dies.
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

from pipeline.errors import UserError
from tauflow.logs import STARTED, error_line, log_file
from tauflow.parallel import Fate, Task
from tauflow.preload import OWNER
from tauflow.workspace import program_path

if TYPE_CHECKING:
    from ray import ObjectRef

# How often a stage whose worker or machine died is started again.
RETRIES = 3
POLL_SECONDS = 0.5
CONNECT_SECONDS = 10.0
# Stages exchange files, not objects; Ray would take a third of the memory.
OBJECT_STORE_BYTES = 100_000_000
GPUS = "CUDA_VISIBLE_DEVICES"
# A worker that Ray ends kills its child processes, which then could not end theirs; so this is the child.
RELAY = ("/bin/sh", "-c", '"$@"; exit "$?"', "sh")
# Exit codes where the relay, or what it runs, was killed.
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)


@dataclass(frozen=True)
class Job:
    """What all stages of a command share: the repository, the environment, the options of `dvc repro`."""

    root: Path
    environment: Mapping[str, str]
    options: Sequence[str]


@dataclass(frozen=True)
class Outcome:
    """How a stage ended, and why if it failed."""

    fate: Fate
    seconds: float = 0.0
    error: str | None = None


@dataclass
class Cluster:
    """A connection to Ray. ``gpus``: how many a stage on a device is leased."""

    job: Job
    gpus: float
    running: "dict[ObjectRef[Outcome], str]" = field(default_factory=dict)

    def start(self, task: Task) -> None:
        """Hand a task to Ray."""
        import ray

        log_file(task.name).unlink(missing_ok=True)
        gpus = self.gpus if task.gpu else 0
        # Ray would end the worker after a task with a GPU, to free its memory: but the stage is a process of its own.
        remote = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD", max_calls=0)(run_stage)
        self.running[remote.options(num_gpus=gpus, name=task.name).remote(self.job, task.name, gpus > 0)] = task.name

    def wait(self) -> dict[str, Outcome]:
        """A task that has ended within a moment, if one has."""
        import ray

        ended, _ = ray.wait(list(self.running), num_returns=1, timeout=POLL_SECONDS)
        return {self.running.pop(reference): _outcome(reference) for reference in ended}


def check_installed() -> None:
    """Ray is optional.

    Raises:
        UserError: it is not installed.
    """
    if find_spec("ray") is None:
        raise UserError("--jobs needs Ray, which is not installed; run `pip install 'tauflow[cluster]'`")


@contextmanager
def connect(address: str | None, jobs: int) -> Iterator[None]:
    """Be connected to Ray; what runs there for this command ends with the connection.

    Args:
        address: of a running cluster, or ``auto``; none: Ray is started here, for this command only.
        jobs: how many stages a Ray started here runs at once.

    Raises:
        UserError: no cluster answers.
    """
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"})
    options: dict[str, Any] = {"address": address}
    if address is None:
        # Ray listens on the loopback interface alone only when it is told that there can be no cluster, and then still
        # to every user of the machine, so only whoever has the token is heard.
        os.environ.update({"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"})
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        options = {"address": "local", "num_cpus": jobs, "object_store_memory": OBJECT_STORE_BYTES}
        options["include_dashboard"] = False
    import ray

    try:
        if address is not None:
            _check_reachable(address)
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray has many, for a wrong address, no cluster, another version
        asked = "a local Ray did not start" if address is None else f"--address {address}: no Ray cluster to use"
        raise UserError(f"{asked}: {_first_line(error)}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray itself would try for minutes."""
    from ray._private.services import canonicalize_bootstrap_address

    found = canonicalize_bootstrap_address(address)
    if found is None:
        raise ConnectionError("none runs here; name the HOST:PORT that `ray start` said")
    host, _, port = found.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


def gpu_slots(gpus_per_stage: float | None) -> tuple[float, int]:
    """How many GPUs a stage is leased, and how many stages can have as many at once.

    Without GPUs in the cluster none are leased, and the number of stages is unlimited.

    Raises:
        UserError: no machine has as many GPUs, or none has a CPU.
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
    """What to call the nodes of the cluster by their identifiers: host names, with more where one has several."""
    import ray

    hosts = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes()}
    several = {host for host in hosts.values() if list(hosts.values()).count(host) > 1}
    return {node: f"{host}/{node[:6]}" if host in several else host for node, host in hosts.items()}


def run_stage(job: Job, stage: str, leased: bool) -> Outcome:
    """The Ray task: one stage in a process that ends with this one."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    if not job.root.is_dir():
        return Outcome(Fate.FAILED, error=f"{socket.gethostname()} has no {job.root}; all machines must share it")
    gpus = os.environ.get(GPUS, "") if leased else None
    command = [*RELAY, sys.executable, "-m", "tauflow.attempt", stage, *job.options]
    os.chdir(job.root)
    log = log_file(stage)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        output.write(f"{STARTED}{node}{f' GPU {gpus}' if gpus else ''}\n".encode())
        output.flush()
        began, offset = time.monotonic(), output.tell()
        # The pipe to its standard input closes when this process ends, however it ends.
        process = subprocess.Popen(
            command,
            env=_environment(job.environment, gpus),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        code = process.wait()
        if code in KILLED:  # what it had started is left
            _kill_session(process.pid)
    said = log.read_bytes()[offset:].decode("utf-8", "replace")
    seconds = time.monotonic() - began
    if code:
        return Outcome(Fate.FAILED, seconds, error_line(said) or f"exit code {code}")
    return Outcome(_fate(said), seconds)


def _kill_session(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _environment(environment: Mapping[str, str], gpus: str | None) -> dict[str, str]:
    """The command's own, not the worker's: Ray sets OMP_NUM_THREADS, on which results depend."""
    path = program_path(environment.get("PATH", os.defpath))
    leased = {} if gpus is None else {GPUS: gpus}
    return {**environment, **leased, "PATH": path, OWNER: str(os.getpid())}


def _fate(said: str) -> Fate:
    if re.search(r"^Stage '.*' didn't change, skipping$", said, re.MULTILINE):
        return Fate.UNCHANGED
    if re.search(r"^Stage '.*' is cached - skipping run", said, re.MULTILINE):
        return Fate.RESTORED
    return Fate.RAN


def _outcome(reference: "ObjectRef[Outcome]") -> Outcome:
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(reference)
    except RayTaskError as error:  # such as a full disk
        return Outcome(Fate.FAILED, error=repr(error.cause))
    except RayError as error:
        return Outcome(Fate.FAILED, error=f"its worker died {RETRIES + 1} times: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
