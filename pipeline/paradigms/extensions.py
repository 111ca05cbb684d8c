"""Selections, regularisers and merging methods from a Python file outside the package."""

import importlib.util
import sys
from pathlib import Path

from pipeline.config import Extension
from pipeline.errors import UserError, one_line
from pipeline.io.files import file_sha256


def load_extension(extension: Extension, root: Path = Path()) -> None:
    """Run a file whose decorated functions register themselves; its path is relative to ``root``.

    Its hash is in ``params.yaml``, so that when it changes DVC runs only the stages of recipes and merges that use it.

    Raises:
        UserError: the file is missing, has another hash, fails, or registers a name that is already in use.
    """
    path = root / extension.path
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the path of an extension from the root of the repository")
    sha256 = file_sha256(path)
    if sha256 != extension.sha256:
        raise UserError(
            f"{path}: its SHA-256 is {sha256}, but params.yaml has {extension.sha256}; "
            "if you changed the file on purpose, update it with `tauflow compose` or `dvc exp run -S`"
        )
    # Dataclasses look up their module by name; this name shadows no other module.
    name = f"tauflow_extension_{sha256[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: not a Python file; the name of an extension ends in .py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:
        reason = one_line(error)
        raise UserError(f"{path}: {type(error).__name__} while loading it: {reason}") from error
