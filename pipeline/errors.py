"""The error for a user's mistake, and messages that several packages share. No stage depends on this file."""

import errno
import shutil
from pathlib import Path


class UserError(Exception):
    """A mistake of the user. The text is one line that says what is wrong, where, and what to do.

    Readers raise it for files that are missing, damaged, or of another format; their docstrings name only what is
    specific to them. What a name in it brings along, such as a newline or a terminal's escape sequence, is escaped.
    """

    def __str__(self) -> str:
        return escaped(super().__str__())


def escaped(text: str) -> str:
    """Return a text with its unprintable characters, such as newlines and escape sequences, as Python escapes them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def one_line(error: object) -> str:
    """Return the message of an error, or another text, on one line."""
    return " ".join(str(error).split())


def missing(path: Path) -> UserError:
    """Return the error for a missing file."""
    return UserError(f"{path}: no such file; {_restore(path)}")


def damaged(path: Path, reason: str, error: Exception | None = None) -> UserError:
    """Return the error for a file that cannot be read, with the reader's message."""
    detail = f" ({one_line(error)})" if error else ""
    return UserError(f"{path}: {reason}{detail}; {_restore(path)}")


def no_space(what: str, directory: Path, needed: int, free: int) -> UserError:
    """Return the error for a disk without room for ``needed`` bytes."""
    return UserError(f"{what}: {gigabytes(needed)} are needed at {directory.resolve()}, {gigabytes(free)} are free")


def not_written(path: Path, error: OSError) -> UserError:
    """Return the error for a file that the operating system does not let be written, with what is free there."""
    directory = path.parent.absolute()
    while not directory.is_dir() and directory != directory.parent:
        directory = directory.parent
    try:
        free = f" ({shutil.disk_usage(directory).free / 1e6:.1f} MB are free at {directory})"
    except OSError:
        free = ""
    advice = _ADVICE.get(error.errno or 0, "check the disk and the directory's rights")
    return UserError(
        f"{path}: cannot be written: {one_line(error.strerror or error)}{free}; {advice}, then run it again"
    )


# Remedies, by the operating system's number of an error.
_ADVICE = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room in your quota",
    errno.EIO: "check the disk",
    errno.EROFS: "mount it for writing",
}


def gigabytes(size: int) -> str:
    """Return a number of bytes as text."""
    return f"{size / 1e9:.2f} GB"


def _restore(path: Path) -> str:
    return f"restore it with `dvc checkout {path}` or make it again with `dvc repro`"
