"""The tool around the library: it runs and tracks stages, and provides the command line and functions for programs.

Nothing here can change a stage's outputs, so no stage declares it as a dependency.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from tauflow.library_path import use_library

if TYPE_CHECKING:
    from tauflow.library import TaskVector, evaluate, load, merge, save

__all__ = ["TaskVector", "evaluate", "load", "merge", "save"]
__version__ = version("tauflow")
use_library()


def __getattr__(name: str) -> Any:
    """Import the library on first use, so that the command line starts without torch and open_clip."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("tauflow.library"), name)
