"""Selections and regularisers from a Python file outside the package."""

import importlib.util
import sys
from pathlib import Path

from pipeline.config import Extension
from pipeline.errors import UserError
from pipeline.files import file_sha256


def load_extension(extension: Extension) -> None:
    """Run the file, whose decorated functions register themselves.

    The hash stands in ``params.yaml``, so that DVC trains again when the file changes, and only what uses it.

    Raises:
        UserError: the file is missing, has another hash, fails, or takes a name that is taken.
    """
    path = Path(extension.path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; a recipe's extension is named from the root of the repository")
    found = file_sha256(path)
    if found != extension.sha256:
        raise UserError(
            f"{path}: its SHA-256 is {found}, not {extension.sha256} as params.yaml says; "
            "if it was changed on purpose, `tauflow compose` or `dvc exp run -S` writes the new one"
        )
    # By a name that hides no module, since dataclasses want theirs among the loaded ones.
    name = f"tauflow_extension_{found[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: is no Python file; an extension is a file that ends in .py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:
        said = " ".join(str(error).split())
        raise UserError(f"{path}: {type(error).__name__} while it was loaded: {said}") from error
