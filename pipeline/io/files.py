"""Atomic file I/O: no partial writes."""

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pipeline.errors import UserError, damaged, missing, no_space, not_written

# Characters of the file name that the temporary name repeats; a name has at most 255 bytes.
_MAX_NAME = 50


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it if the block succeeds and is deleted if not.

    The file gets the rights that any new file there gets, by the umask and the directory.

    Raises:
        UserError: the operating system refuses: the disk is full or broken, or the directory's rights forbid it.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: a folder or device, which a file cannot replace; name another file")
    temporary = path.with_name(f".{path.name[:_MAX_NAME]}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        rights = temporary.stat().st_mode
        yield temporary
        temporary.chmod(rights)  # safetensors creates files that only their owner can read
        temporary.replace(path)
    except OSError as error:
        if error.filename is not None and Path(os.fsdecode(error.filename)) not in (temporary, *path.parents):
            raise  # of another file, which the block reads
        raise not_written(path, error) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def allocate(file: IO[bytes], size: int) -> None:
    """Take the disk's room for a file of this size before it is written, where the file system can.

    Raises:
        OSError: the disk has not enough.
    """
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except AttributeError:  # not on this system
        return
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV):
            needed = f"{error.strerror}, {size / 1e6:.1f} MB are needed"
            raise OSError(error.errno, needed) from None


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, with sorted keys."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing(path) from None
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, "not valid JSON", error) from None


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise missing(path) from None


def require_space(directory: Path, needed: int, what: str) -> None:
    """Check that the disk has room in a directory, which need not exist yet.

    Args:
        directory: where the bytes will be written.
        needed: the number of bytes.
        what: the name of the data, for the message.

    Raises:
        UserError: there is not enough room.
    """
    while not directory.exists():
        directory = directory.parent
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise no_space(what, directory, needed, free)
