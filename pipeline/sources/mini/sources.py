"""Read the committed sources under ``data/mini/``."""

import zipfile
import zlib
from pathlib import Path

import numpy as np


def read_arrays(path: Path, *names: str) -> list[np.ndarray]:
    """Return the named arrays of an ``.npz`` file, in the order of the names.

    Raises:
        ValueError: the file is missing, damaged or lacks an array.
    """
    try:
        # Opened here, because np.load does not close a file that is not an archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return [archive[name] for name in names]
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; get it again with `git checkout {path}`") from None
    except KeyError as error:
        raise ValueError(f"{path}: has no array {error.args[0]!r}; get it again with `git checkout {path}`") from None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: damaged ({reason}); get it again with `git checkout {path}`") from None
