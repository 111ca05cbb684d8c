"""Environment checks: what Tauflow needs, whether it is present, and how to fix what is missing."""

import os
import platform
import shutil
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement

from artifacts.workspace import PARAMETERS, git, sqlite_path, tracking_uri
from pipeline.config import LegalNames, load_parameters
from pipeline.errors import UserError, one_line
from pipeline.models import model_names
from pipeline.tasks import task_names

if TYPE_CHECKING:
    from dvc.repo import Repo

    from pipeline.config import Parameters

LOCK = Path("requirements.lock")
# Free bytes below which the disk is a warning and an error. The mini suite with its cache takes 2 GB.
_LOW_SPACE, _NO_SPACE = 10e9, 1e9
# Time limit for an answer over the network, in seconds.
_TIMEOUT = 5.0
# Maximum length of an error message, in characters.
_MAX_ERROR = 200


class Severity(StrEnum):
    """Severity of a finding: ``error`` if something will fail, ``warning`` if something may."""

    ok = "ok"
    warning = "warning"
    error = "error"


@dataclass(frozen=True)
class Finding:
    """The result of a check: its subject, its severity, details, and a remedy unless all is well."""

    subject: str
    severity: Severity
    detail: str
    to_do: str = ""


def examine() -> Iterator[Finding]:
    """Run all checks. Those that use the network run in the background, each for a few seconds at most."""
    hub = _in_background("hub", _hub, _HUB_ADVICE)
    for check in (_python, _environment, _torch, _disk, _git):
        yield check()
    parameters = _parameters()
    yield parameters if isinstance(parameters, Finding) else _described(parameters)
    yield from _dvc()
    yield _mlflow(None if isinstance(parameters, Finding) else parameters.suite)
    yield hub()


def _python() -> Finding:
    # Always supported: an older Python fails before it gets here.
    return Finding("Python", Severity.ok, f"{platform.python_version()} at {sys.executable}")


def _environment() -> Finding:
    try:
        lines = LOCK.read_text(encoding="utf-8").splitlines()
    except OSError:
        return Finding("packages", Severity.warning, f"no {LOCK} here", "run from the root of the repository")
    locked = [requirement for line in lines if (requirement := _locked(line))]
    wrong = [text for requirement in locked if (text := _wrong_version(requirement))]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return Finding("packages", Severity.warning, f"{', '.join(wrong[:3])}{more}", f"`make setup` installs {LOCK}")
    return Finding("packages", Severity.ok, f"all {len(locked)} of {LOCK}")


def _locked(line: str) -> Requirement | None:
    """Return the requirement that a line of the lock file pins on this machine, if any."""
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
    except (ImportError, OSError) as error:  # a shared library may be missing or incompatible
        return Finding("torch", Severity.error, _flat(error), "`make setup` installs it")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count:
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(count))
        bf16 = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16"
        return Finding("torch", Severity.ok, f"{torch.__version__}, {count} GPU ({names}), {bf16}")
    detail = f"{torch.__version__}, no GPU, {torch.get_num_threads()} threads"
    if torch.version.cuda and shutil.which("nvidia-smi"):
        return Finding("torch", Severity.warning, detail, f"CUDA {torch.version.cuda} sees no GPU: check `nvidia-smi`")
    return Finding("torch", Severity.ok, detail)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    detail = f"{free / 1e9:.0f} GB free"
    if free < _LOW_SPACE:
        severity = Severity.error if free < _NO_SPACE else Severity.warning
        return Finding(
            "disk",
            severity,
            detail,
            "make room: `dvc gc --all-commits --all-experiments` drops what no commit or experiment uses",
        )
    return Finding("disk", Severity.ok, detail)


def _git() -> Finding:
    if not shutil.which("git"):
        return Finding("git", Severity.error, "not found", "install git")
    version = (git("--version") or b"").decode().strip().removeprefix("git version ")
    if not git("rev-parse", "--show-toplevel"):
        detail = f"{version}, but this is not a repository"
        return Finding("git", Severity.error, detail, "clone Tauflow and run from its root")
    if git("-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT") is None:
        to_do = (
            "`git config --global user.name NAME` and `user.email ADDRESS`: `dvc exp run` and `git commit` need both"
        )
        return Finding("git", Severity.warning, f"{version}, but no identity", to_do)
    return Finding("git", Severity.ok, version)


def _parameters() -> "Parameters | Finding":
    try:
        return load_parameters(PARAMETERS, LegalNames(task_names(), model_names()))
    except UserError as error:
        return Finding("parameters", Severity.error, str(error))


def _described(params: "Parameters") -> Finding:
    names = f"{', '.join(params.models)}, {', '.join(params.paradigms)}"
    return Finding("parameters", Severity.ok, f"suite {params.suite}: {len(params.tasks)} tasks, {names}")


def _dvc() -> Iterator[Finding]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    version = metadata.version("dvc")
    try:
        with Repo() as repo:
            detail = f"{version}, {len(repo.index.stages)} stages, cache {repo.cache.local.path}"
            yield Finding("DVC", Severity.ok, detail)
            yield _remote(repo)
    except DvcException as error:
        yield Finding("DVC", Severity.error, f"{version}: {_flat(error)}", "clone Tauflow and run from its root")


def _remote(repo: "Repo") -> Finding:
    """Check that the default remote answers, even if nothing is there yet.

    It requests a listing, because an existence check returns false when the storage is unreachable.
    """
    name = repo.config["core"].get("remote")
    if not name:
        return Finding("DVC remote", Severity.ok, "none; `dvc remote add --default NAME URL` names where artifacts go")

    def listed() -> str:
        odb = repo.cloud.get_remote_odb()
        odb.fs.ls(odb.path, detail=False)
        return odb.fs.unstrip_protocol(odb.path)

    try:
        address = _answer(_start(listed))
    except FileNotFoundError:
        return Finding("DVC remote", Severity.ok, f"{name}, nothing there yet")
    except OSError as error:
        to_do = "check `dvc remote list`, the network and your credentials"
        return Finding("DVC remote", Severity.warning, f"{name}: {_flat(error)}", to_do)
    return Finding("DVC remote", Severity.ok, f"{name}, {address}")


@dataclass
class _Call:
    """A call in a daemon thread, so that one that hangs does not block the command."""

    started: float
    thread: threading.Thread
    answers: list[object]


def _start(function: Callable[[], object]) -> _Call:
    """Start a call that may hang."""
    answers: list[object] = []

    def run() -> None:
        try:
            answers.append(function())
        except Exception as error:  # clients of storages, servers and databases raise anything
            answers.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return _Call(time.monotonic(), thread, answers)


def _answer(call: _Call) -> object:
    """Return the answer, waiting for at most the time limit.

    Raises:
        FileNotFoundError: the call raised it.
        OSError: the call timed out or failed.
    """
    call.thread.join(max(0.0, call.started + _TIMEOUT - time.monotonic()))
    if not call.answers:
        raise TimeoutError(f"no answer within {_TIMEOUT:g} s")
    (answer,) = call.answers
    if isinstance(answer, FileNotFoundError):
        raise answer
    if isinstance(answer, Exception):
        raise OSError(_flat(answer))
    return answer


def _in_background(subject: str, check: Callable[[], Finding], to_do: str) -> Callable[[], Finding]:
    """Start a check and return a function that waits for its finding, which is a warning if the check times out."""
    call = _start(check)

    def finding() -> Finding:
        try:
            answer = _answer(call)
        except OSError as error:
            return Finding(subject, Severity.warning, _flat(error), to_do)
        assert isinstance(answer, Finding)
        return answer

    return finding


def _mlflow(suite: str | None) -> Finding:
    uri = tracking_uri()
    database = sqlite_path(uri)
    if database and not database.exists():
        return Finding("MLflow", Severity.ok, f"{metadata.version('mlflow')}, the first stage makes {uri}")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", f"{_TIMEOUT:g}")
    from tauflow.tracking.store import Store  # imported before the time limit starts: the import takes seconds

    def look() -> Finding:
        store = Store.connect()
        if suite:
            store.find_experiment(suite)
        return Finding("MLflow", Severity.ok, f"{metadata.version('mlflow')}, {uri}")

    try:
        answer = look() if database else _answer(_start(look))
    except Exception as error:  # database drivers raise anything
        to_do = "stages run without it, and `tauflow track` logs them later"
        return Finding("MLflow", Severity.warning, f"{uri}: {_flat(error)}", to_do)
    assert isinstance(answer, Finding)
    return answer


_HUB_ADVICE = "only ViT-B-32, B-16 and L-14 need it: check the network, or set HF_ENDPOINT to a mirror"


def _hub() -> Finding:
    """Check that the hub answers, even with an error such as 404."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    if not endpoint.startswith(("http://", "https://")):
        return Finding(
            "hub", Severity.warning, f"HF_ENDPOINT is {endpoint!r}", "it must begin with http:// or https://"
        )
    try:
        with urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=_TIMEOUT):
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            return Finding("hub", Severity.warning, f"{endpoint}: {_flat(error)}", _HUB_ADVICE)
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return Finding("hub", Severity.warning, f"{endpoint}: {_flat(reason)}", _HUB_ADVICE)
    return Finding("hub", Severity.ok, endpoint)


def _flat(error: object) -> str:
    """Return an error's text as one line of limited length."""
    text = one_line(error) or type(error).__name__
    return text if len(text) <= _MAX_ERROR else f"{text[: _MAX_ERROR - 1]}…"
