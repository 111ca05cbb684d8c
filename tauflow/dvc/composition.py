"""Compose params.yaml from conf/, as ``dvc exp run -S`` does."""

import importlib.util
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from dvc.utils.hydra import compose_and_dump
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from artifacts.layout import REPORTS
from pipeline.errors import UserError

CONFIGURATION = "conf"
# Logger for foreign exceptions, such as Hydra's.
DVC_LOG = "dvc.cli"


def compose(root: Path, overrides: Sequence[str] = (), output: Path | None = None) -> None:
    """Write ``params.yaml`` of a working copy, or ``output``.

    Args:
        root: the working copy.
        overrides: Hydra overrides such as ``paradigm=ntk`` or ``finetune.lr=1e-3``.
        output: the file to write instead.

    Raises:
        UserError: an override names something unknown, or its value is invalid. Nothing is written.
    """
    directory, output = root.resolve() / CONFIGURATION, output or root / "params.yaml"
    _load_resolvers(directory / "hydra_plugins" / "tauflow_resolvers.py")
    try:
        compose_and_dump(str(output), str(directory), None, "config", str(directory), list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(one_line(error)) from None


def _load_resolvers(path: Path) -> None:
    """Load the resolvers of a working copy: Hydra itself loads plugins only once per process."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def protect_reports(root: Path) -> None:
    """Keep DVC from deleting files under reports/ that git tracks when a parameter change drops their stages.

    DVC deletes files that it restored, even those in git (`cache: false`), unless their modification time changed.
    """
    for path in (root / REPORTS).rglob("*.json"):
        path.touch()


def shorten_dvc_errors() -> None:
    """Make `dvc` commands report a mistake in ``-S`` in one line, as `tauflow compose` does."""
    logger = logging.getLogger(DVC_LOG)
    if _end_with_one_line not in logger.filters:
        logger.addFilter(_end_with_one_line)


def _end_with_one_line(record: logging.LogRecord) -> bool:
    """Exit with one line where DVC's log would print a page about Hydra and an unexpected error."""
    error = record.exc_info[1] if record.exc_info else None
    verbose = logging.getLogger(DVC_LOG).isEnabledFor(logging.DEBUG)
    if isinstance(error, (HydraException, OmegaConfBaseException)) and not verbose:
        raise SystemExit(f"ERROR: {one_line(error)}")
    return True


def one_line(error: BaseException) -> str:
    """Return one line about an invalid override, with the valid choices if Hydra knows them."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, UserError):  # raised by a resolver
            return str(cause)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return f"{group}: unknown option {option!r}; choose from {', '.join(error.options)}"
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
    legal = [str(key) for key in section if key not in ("hydra", "derived")]
    return f"unknown key {error.full_key!r}; choose from {', '.join(legal) or 'none'}"
