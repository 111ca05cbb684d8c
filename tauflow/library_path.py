"""Where Python finds `pipeline` and `artifacts`: in a study, beside `tauflow/` in a clone, or in the wheel.

The wheel installs `tauflow` alone, with the files of a study in `tauflow/template/`, so that nobody's environment gets
packages whose names other programs use for their own.
"""

import json
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, TracebackType

# The file of a study that names the Tauflow that its code is from.
RECORD = Path("tauflow.json")
PACKAGES = ("pipeline", "artifacts")
_HERE = Path(__file__).resolve().parent
TEMPLATE = _HERE / "template"


class Library:
    """A finder of modules that finds the packages of the library below ``root``, and nothing else."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a package of the library is; ``None`` for all other modules."""
        return PathFinder.find_spec(fullname, [str(self.root)]) if fullname in PACKAGES else None


def own_root() -> Path:
    """Return the directory with the files of a study that this Tauflow came with: a clone's, or the wheel's."""
    return TEMPLATE if TEMPLATE.is_dir() else _HERE.parent


def study_version(directory: Path) -> str | None:
    """Return the version of Tauflow that a study's code is from; ``None`` if `init` did not make the directory."""
    try:
        recorded = json.loads((directory / RECORD).read_text(encoding="utf-8"))
        return str(recorded["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def use_library() -> None:
    """Let Python find the library in the current directory if that is a study, and otherwise Tauflow's own.

    Exits with one line if another package of that name comes first, or if the study is of another version; but not for
    `tauflow upgrade`, which works with Tauflow's own.
    """
    recorded, installed = study_version(Path.cwd()), version("tauflow")
    upgrading = sys.argv[1:2] == ["upgrade"]
    if recorded not in (None, installed) and not upgrading:
        raise SystemExit(
            f"error: this study's code is of Tauflow {recorded}, but {installed} is installed; bring the study to it "
            f"with `tauflow upgrade`, or install {recorded}"
        )
    if recorded == installed and not upgrading:
        sys.excepthook = _explain
        sys.meta_path.insert(0, Library(Path.cwd().resolve()))
        return
    root = own_root()
    origins = [_origin(package) for package in PACKAGES]
    for package, origin in zip(PACKAGES, origins, strict=True):
        if origin and origin.parents[1] != root:
            raise SystemExit(f"error: another `{package}`, {origin}, comes before Tauflow's; take it off PYTHONPATH")
    if not all(origins):  # in a clone Python finds them without help
        sys.meta_path.insert(0, Library(root))


def _explain(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print one line if the study's code lacks what this Tauflow imports, as between two commits of one version."""
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] in PACKAGES:
        print(f"error: this study's code does not fit this Tauflow ({error}); run `tauflow upgrade`", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


def _origin(package: str) -> Path | None:
    """Return the file that Python would import for a package; ``None`` if there is none, or only a bare directory."""
    spec = find_spec(package)
    return Path(spec.origin).resolve() if spec and spec.origin else None
