"""What Tauflow needs of a machine, each looked at once: what is there, and what to do where it is not."""

import os
import platform
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement

from pipeline.config import LegalNames, load_parameters
from pipeline.errors import UserError
from pipeline.models import model_names
from pipeline.tasks import task_names
from tauflow.workspace import PARAMETERS, home, tracking_uri

if TYPE_CHECKING:
    from dvc.repo import Repo

LOCK = Path("requirements.lock")
# The mini suite with its cache takes 2 GB, a large model's checkpoints more.
_LITTLE_SPACE, _NO_SPACE = 10e9, 1e9
# How long something on a network may take to answer, in seconds.
_PATIENCE = 5.0
# Characters of an error.
_LONGEST = 200


class Status(StrEnum):
    """``error``: something will fail; ``warning``: something may."""

    ok = "ok"
    warning = "warning"
    error = "error"


@dataclass(frozen=True)
class Finding:
    """What was found of one thing, and what to do about it unless it is fine."""

    subject: str
    status: Status
    found: str
    to_do: str = ""


def examine() -> Iterator[Finding]:
    """Look at everything, one after the other."""
    for look in (_python, _environment, _torch, _disk, _git, _parameters):
        yield look()
    yield from _dvc()
    yield _mlflow()
    yield _hub()


def _python() -> Finding:
    # An older one than Tauflow needs does not get here: its own message names what it lacks.
    return Finding("Python", Status.ok, f"{platform.python_version()} at {sys.executable}")


def _environment() -> Finding:
    try:
        lines = LOCK.read_text(encoding="utf-8").splitlines()
    except OSError:
        return Finding("packages", Status.warning, f"no {LOCK} here", "run from the root of the repository")
    locked = [requirement for line in lines if (requirement := _locked(line))]
    wrong = [text for requirement in locked if (text := _wrong_version(requirement))]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return Finding("packages", Status.warning, f"{', '.join(wrong[:3])}{more}", f"`make setup` installs {LOCK}")
    return Finding("packages", Status.ok, f"all {len(locked)} of {LOCK}")


def _locked(line: str) -> Requirement | None:
    """The package that a line of the lock pins on this machine; hashes and comments pin none."""
    try:
        requirement = Requirement(line.rstrip("\\ "))
    except InvalidRequirement:
        return None
    return requirement if requirement.marker is None or requirement.marker.evaluate() else None


def _wrong_version(requirement: Requirement) -> str | None:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    return (
        None
        if requirement.specifier.contains(version, prereleases=True)
        else (f"{requirement.name} is {version}, not {requirement.specifier}")
    )


def _torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:  # a library that its own libraries do not fit
        return Finding("torch", Status.error, _flat(error), "`make setup` installs it")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count:
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(count))
        bf16 = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16"
        return Finding("torch", Status.ok, f"{torch.__version__}, {count} GPU ({names}), {bf16}")
    found = f"{torch.__version__}, no GPU, {torch.get_num_threads()} threads"
    if torch.version.cuda and shutil.which("nvidia-smi"):
        return Finding("torch", Status.warning, found, f"CUDA {torch.version.cuda} sees no GPU: check `nvidia-smi`")
    return Finding("torch", Status.ok, found)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    found = f"{free / 1e9:.0f} GB free"
    if free < _LITTLE_SPACE:
        status = Status.error if free < _NO_SPACE else Status.warning
        return Finding("disk", status, found, "make room: `dvc gc --workspace --all-commits` drops what no commit uses")
    return Finding("disk", Status.ok, found)


def _git() -> Finding:
    if not shutil.which("git"):
        return Finding("git", Status.error, "not found", "install git")
    version = _output("git", "--version").removeprefix("git version ")
    if not _output("git", "rev-parse", "--show-toplevel"):
        return Finding("git", Status.error, f"{version}, but this is no repository", "clone Tauflow, run from its root")
    return Finding("git", Status.ok, version)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _parameters() -> Finding:
    try:
        params = load_parameters(PARAMETERS, LegalNames(task_names(), model_names()))
    except UserError as error:
        return Finding("parameters", Status.error, str(error))
    found = (
        f"suite {params.suite}: {len(params.tasks)} tasks, {', '.join(params.models)}, {', '.join(params.paradigms)}"
    )
    return Finding("parameters", Status.ok, found)


def _dvc() -> Iterator[Finding]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    version = metadata.version("dvc")
    try:
        with Repo() as repo:
            found = f"{version}, {len(repo.index.stages)} stages, cache {repo.cache.local.path}"
            yield Finding("DVC", Status.ok, found)
            yield _remote(repo)
    except DvcException as error:
        yield Finding("DVC", Status.error, f"{version}: {_flat(error)}", "clone Tauflow, run from its root")


def _remote(repo: "Repo") -> Finding:
    """Whether the default remote answers, be it that nothing is there yet.

    It is asked for a listing: whether something exists, clients of storages deny where they cannot reach them.
    """
    from dvc.exceptions import DvcException

    name = repo.config["core"].get("remote")
    if not name:
        return Finding("DVC remote", Status.ok, "none; `dvc remote add --default NAME URL` names where artifacts go")
    try:
        odb = repo.cloud.get_remote_odb()
        _within(_PATIENCE, lambda: odb.fs.ls(odb.path, detail=False))
    except FileNotFoundError:
        return Finding("DVC remote", Status.ok, f"{name}, nothing there yet")
    except (DvcException, OSError) as error:
        to_do = "check `dvc remote list`, the network and your credentials"
        return Finding("DVC remote", Status.warning, f"{name}: {_flat(error)}", to_do)
    return Finding("DVC remote", Status.ok, f"{name}, {odb.fs.unstrip_protocol(odb.path)}")


def _within(seconds: float, ask: Callable[[], object]) -> None:
    """Ask something that may never answer.

    Raises:
        FileNotFoundError: it answered that there is no such thing.
        OSError: it has not answered in time, or with an error.
    """
    answers: list[Exception | None] = []

    def run() -> None:
        try:
            ask()
            answers.append(None)
        except Exception as error:  # whatever a storage's client raises
            answers.append(error)

    # A daemon, which cannot keep the command from ending.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not answers:
        raise TimeoutError(f"no answer within {seconds:g} s")
    if isinstance(answers[0], FileNotFoundError):
        raise answers[0]
    if answers[0] is not None:
        raise OSError(_flat(answers[0]))


def _mlflow() -> Finding:
    uri = tracking_uri()
    if uri.startswith("sqlite:") and not (home() / "mlflow.db").exists() and "MLFLOW_TRACKING_URI" not in os.environ:
        return Finding("MLflow", Status.ok, f"{metadata.version('mlflow')}, the first stage makes {uri}")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", f"{_PATIENCE:g}")
    from tauflow.mlflow_store import Store

    try:
        Store.connect()
    except Exception as error:  # whatever a server or database raises
        to_do = "start the server or unset MLFLOW_TRACKING_URI; stages run without, `tauflow track` logs them later"
        return Finding("MLflow", Status.warning, f"{uri}: {_flat(error)}", to_do)
    return Finding("MLflow", Status.ok, f"{metadata.version('mlflow')}, {uri}")


def _hub() -> Finding:
    """Any answer will do, be it that there is no such page."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    to_do = "only ViT-B-32, B-16 and L-14 need it: check the network, or set HF_ENDPOINT to a mirror"
    if not endpoint.startswith(("http://", "https://")):
        return Finding("hub", Status.warning, f"HF_ENDPOINT is {endpoint!r}", "it must begin with http:// or https://")
    try:
        with urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=_PATIENCE):
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            return Finding("hub", Status.warning, f"{endpoint}: {_flat(error)}", to_do)
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return Finding("hub", Status.warning, f"{endpoint}: {_flat(reason)}", to_do)
    return Finding("hub", Status.ok, endpoint)


def _flat(error: object) -> str:
    """An error's text as one line, cut where it gets long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
