"""Names as users read them: printable in one line, and compared as CLIP's text encoder would see them."""

import html
import os
import unicodedata
from pathlib import Path

_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'})


def printable(name: str | Path) -> str:
    """Return a name in one printable line: bytes that are not UTF-8 and control characters are escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def comparable(name: str) -> str:
    """Return a form of a class name that is equal for names which give the same prompt or the same directory.

    Capitals, HTML entities, curly quotes, Unicode's composed and decomposed forms, invisible characters, underscores
    and blanks make no difference.
    """
    text = unicodedata.normalize("NFKC", html.unescape(html.unescape(name))).translate(_QUOTES)
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", text.casefold()).replace("_", " ").split())
