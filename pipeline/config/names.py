"""The pattern that all names follow: tasks, models, recipes, paradigms, suites, selections, regularisers.

Names are parts of paths, of DVC's stage names and of keys, so the pattern excludes every character that a file system,
DVC or a shell treats specially.
"""

import itertools
import re
import reprlib
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator

MAX_LENGTH = 64
_PATTERN = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{MAX_LENGTH - 1}}}")
# Windows opens a device instead of a file with such a name, with or without a suffix.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{kind}{number}" for kind in ("com", "lpt") for number in range(1, 10))}

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlevel = 3
_MAX_SHORT = 100


def short(value: object) -> str:
    """Return a value's ``repr`` for a message: one line, printable, long values cut."""
    text = _SHORT.repr(value)
    return text if len(text) <= _MAX_SHORT else f"{text[:_MAX_SHORT]}…"


def check_name(name: str) -> str:
    """Return a name that follows the pattern.

    Raises:
        ValueError: the name does not follow the pattern.
    """
    if not _PATTERN.fullmatch(name):
        raise ValueError(
            f"{short(name)} is not a name; use 1 to {MAX_LENGTH} of A-Z, a-z, 0-9, _ and -, "
            "beginning with a letter or digit"
        )
    if name.lower() in _DEVICES:
        raise ValueError(f"{name!r} is not a name; Windows reserves it for a device")
    return name


Name = Annotated[str, AfterValidator(check_name)]


def check_keys(kind: str, *names: Sequence[str]) -> None:
    """Check that joining one name of each sequence with hyphens gives every combination a unique key.

    Keys that differ in case only are the same: some file systems have one file for both.

    Raises:
        ValueError: two combinations give the same key: ``a-b`` and ``c``, ``a`` and ``b-c``; ``A`` and ``a``.
    """
    combinations: dict[str, tuple[str, ...]] = {}
    for combination in itertools.product(*names):
        other = combinations.setdefault("-".join(combination).lower(), combination)
        if other != combination:
            first, second = (", ".join(repr(name) for name in names) for names in (other, combination))
            raise ValueError(f"{kind}: ({first}) and ({second}) give the same key; rename one of them")
