"""Differences between two sets of parameters."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

# Maximum length of a shown value, in characters.
_MAX_CHARACTERS = 60


def changes(ours: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted name and both values of each differing entry of two mappings; ``None`` for a missing value."""
    for key in dict.fromkeys([*ours, *theirs]):
        own, other = ours.get(key), theirs.get(key)
        if isinstance(own, dict) and isinstance(other, dict):
            yield from changes(own, other, f"{prefix}{key}.")
        elif own != other or (key in ours) != (key in theirs):
            yield f"{prefix}{key}", own, other


def change_text(key: str, before: object, now: object) -> str:
    """Return a change as readable text; long values are shortened."""
    return f"{key}: {textwrap.shorten(str(before), _MAX_CHARACTERS)} → {textwrap.shorten(str(now), _MAX_CHARACTERS)}"
