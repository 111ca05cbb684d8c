"""Reading the committed sources under ``data/mini/``."""

import zipfile
import zlib
from pathlib import Path

import numpy as np


def read_arrays(path: Path, *names: str) -> list[np.ndarray]:
    """The named arrays of an ``.npz`` file, in that order.

    Raises:
        ValueError: the file is missing, damaged or lacks an array.
    """
    try:
        # Opened here: np.load leaves a file that is no archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return [archive[name] for name in names]
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; get it again with `git checkout {path}`") from None
    except KeyError as error:
        raise ValueError(f"{path}: has no array {error.args[0]!r}; get it again with `git checkout {path}`") from None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: damaged ({reason}); get it again with `git checkout {path}`") from None
