"""Composing params.yaml from conf/, as ``dvc exp run -S`` does."""

import importlib.util
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from dvc.utils.hydra import compose_and_dump
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from pipeline.config.derived import DERIVED
from pipeline.errors import UserError
from tauflow.layout import REPORTS

CONFIGURATION = "conf"
# What DVC says of exceptions that are not its own, of which Hydra's are some.
DVC_LOG = "dvc.cli"


def compose(root: Path, overrides: Sequence[str] = (), output: Path | None = None) -> None:
    """Write ``params.yaml`` of a working copy, or ``output``.

    Args:
        root: the working copy.
        overrides: such as ``paradigm=ntk`` or ``finetune.lr=1e-3``.
        output: where to write instead.

    Raises:
        UserError: an override names what does not exist, or its value is not legal. Nothing is written.
    """
    directory, output = root.resolve() / CONFIGURATION, output or root / "params.yaml"
    _load_resolvers(directory / "hydra_plugins" / "tauflow_resolvers.py")
    try:
        compose_and_dump(str(output), str(directory), None, "config", str(directory), list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(one_line(error)) from None


def _load_resolvers(path: Path) -> None:
    """Hydra loads plugins once per process, those of the first working copy: here are this one's."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def disown_reports(root: Path) -> None:
    """Keep what git tracks under reports/ when DVC next removes what other parameters no longer span.

    What DVC has restored it takes for its own, files of git's (`cache: false`) included, unless they changed since;
    a new time is change enough.
    """
    for path in (root / REPORTS).rglob("*.json"):
        path.touch()


def say_mistakes_in_one_line() -> None:
    """In a `dvc` command, say what is wrong with ``-S`` as `tauflow compose` does."""
    logger = logging.getLogger(DVC_LOG)
    if _end_with_one_line not in logger.filters:
        logger.addFilter(_end_with_one_line)


def _end_with_one_line(record: logging.LogRecord) -> bool:
    """A filter of DVC's log, which would say a page, most of it about Hydra, and call the error unexpected."""
    error = record.exc_info[1] if record.exc_info else None
    verbose = logging.getLogger(DVC_LOG).isEnabledFor(logging.DEBUG)
    if isinstance(error, (HydraException, OmegaConfBaseException)) and not verbose:
        raise SystemExit(f"ERROR: {one_line(error)}")
    return True


def one_line(error: BaseException) -> str:
    """What is wrong with an override, and the legal values where Hydra knows them."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, UserError):  # of a resolver
            return str(cause)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return f"{group}: {option!r} is unknown; legal are {', '.join(error.options)}"
    for cause in causes:
        if isinstance(cause, ConfigKeyError | ConfigAttributeError):
            return _unknown_key(cause)
    return " ".join(str(error).split())


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__  # OmegaConf sets the latter only


def _unknown_key(error: OmegaConfBaseException) -> str:
    section = error.parent_node if isinstance(error.parent_node, DictConfig) else {}
    legal = [str(key) for key in section if key not in ("hydra", *DERIVED)]
    return f"unknown key {error.full_key!r}; legal keys here are {', '.join(legal) or 'none'}"
