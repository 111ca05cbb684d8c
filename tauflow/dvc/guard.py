"""Guard ``dvc.lock``, which plain DVC rewrites in place: a kill during that leaves a file that is empty or cut off.

A cut file is often valid YAML with fewer entries, and DVC accepts it. So a copy of the last whole file is kept, and
what a kill has cut off is restored from it. Commands of Tauflow that write the file replace it atomically.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from artifacts.workspace import git
from pipeline.config.reading import parse_yaml
from pipeline.errors import UserError
from pipeline.io.files import atomic_write, write_text

LOCK = "dvc.lock"
COPY = Path(".tauflow", "dvc.lock.whole")
# How DVC begins the file, and the first line of an entry.
HEADER = "schema: '2.0'\nstages:\n"
_ENTRY = re.compile(r"^  (?=[^\s#])", re.MULTILINE)

# The text of each entry, by stage instance, in the order of the file.
Blocks = dict[str, str]


def guard_lock(root: Path) -> None:
    """Keep a copy of ``dvc.lock``, or restore what a kill during DVC's rewriting has cut off, and say so on stderr.

    A missing file is left missing, and its copy goes: a kill leaves at least an empty file, so somebody has deleted it.
    A file that equals git's, or whose entries are others than the copy's, is also left as it is, and becomes the copy.
    A running DVC that holds the repository's lock may be writing the file; then nothing is done.
    """
    lock, copy = root / LOCK, root / COPY
    text = _read(lock)
    if text is None:
        copy.unlink(missing_ok=True)
    elif text != _read(copy):
        if not _is_cut(text, _blocks(_read(copy) or "")):
            write_text(copy, text)
        else:
            with _repository_lock(root) as locked:
                if locked:
                    _restore(root)


def _restore(root: Path) -> None:
    lock, copy = root / LOCK, root / COPY
    text, sources = _read(lock) or "", {str(COPY): _read(copy) or "", "git's HEAD": _committed(root)}
    wholes = {source: _blocks(content) for source, content in sources.items()}
    if not _is_cut(text, wholes[str(COPY)]) or text == sources["git's HEAD"] != "":
        if text:
            write_text(copy, text)
        return
    left = _blocks(text)
    if left:  # the last entry may be incomplete
        left.popitem()
    source = next((source for source, whole in wholes.items() if whole and _agree(left, whole)), None)
    whole = wholes[source] if source else {}
    restored = {**whole, **left}
    if restored:
        content = HEADER + "".join(restored.values())
        write_text(lock, content)
        write_text(copy, content)
    else:  # DVC refuses an empty file, but not a missing one
        lock.unlink()
    result = (
        f"restored from {source}: {len(restored)} entries"
        if source
        else f"{len(restored)} whole entries are kept"
        if restored
        else "nothing is left of it, so it is deleted"
    )
    print(f"warning: {LOCK} was cut off, as by a kill while DVC wrote it; {result}", file=sys.stderr)


def _read(path: Path) -> str | None:
    """Return a file's text; bytes that are not UTF-8 become NUL, which no whole file holds."""
    try:
        return path.read_bytes().decode("utf-8", errors="surrogateescape").translate(_UNDECODABLE)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None


_UNDECODABLE = dict.fromkeys(range(0xDC80, 0xDD00), "\0")


def read_blocks(root: Path) -> Blocks:
    """Return the entries of a working copy's ``dvc.lock`` as text, by stage instance; none if it is not DVC's."""
    return _blocks(_read(root / LOCK) or "")


def _committed(root: Path) -> str:
    content = git("-C", str(root), "cat-file", "blob", f"HEAD:./{LOCK}")
    return content.decode("utf-8", errors="replace") if content else ""


def _blocks(text: str) -> Blocks:
    """Return the entries of a file in DVC's form up to the first that holds damage; none for any other file."""
    if not text.startswith(HEADER):
        return {}
    blocks = {}
    starts = [match.start() for match in _ENTRY.finditer(text, len(HEADER))]
    for start, end in pairwise([*starts, len(text)]):
        if "\0" in text[start:end]:
            break
        blocks[text[start:end].split("\n", 1)[0].strip().removesuffix(":").strip("'\"")] = text[start:end]
    return blocks


def _is_cut(text: str, whole: Mapping[str, str]) -> bool:
    """Return whether DVC did not finish writing a file.

    Args:
        text: the file.
        whole: entries of an earlier state. DVC keeps their order, and only a person removes one.
    """
    if "\0" in text or not text.strip() or HEADER.startswith(text):
        return True
    if not text.startswith(HEADER):  # another format, or conflict markers: not written by DVC
        return False
    blocks = _blocks(text)
    if not _is_complete(blocks, text):
        return True
    names, last = list(blocks), list(blocks)[-1]
    shrunken = len(names) < len(whole) and names == list(whole)[: len(names)]
    return shrunken or (blocks[last] != whole.get(last) and whole.get(last, "").startswith(blocks[last]))


def _is_complete(blocks: Blocks, text: str) -> bool:
    """Return whether the last entry of a file in DVC's form is whole: DVC writes an entry's outputs last."""
    if not blocks or "\0" in text or not text.endswith("\n"):
        return False
    name, block = list(blocks.items())[-1]
    try:
        entry = parse_yaml(block, LOCK)[name]
        return "cmd" in entry and all(_is_hashed(item) for key in ("deps", "outs") for item in entry.get(key, ()))
    except (UserError, LookupError, TypeError, AttributeError):
        return False


def _is_hashed(item: Mapping[str, Any]) -> bool:
    return {"path", "md5", "size"} <= item.keys()


def _agree(left: Mapping[str, str], whole: Mapping[str, str]) -> bool:
    """Return whether one list of entries begins with the other."""
    names, others = list(left), list(whole)
    shared = min(len(names), len(others))
    return names[:shared] == others[:shared]


@contextmanager
def _repository_lock(root: Path) -> Iterator[bool]:
    """Hold DVC's lock of the repository in the block, unless another process does; yield whether it is held."""
    import zc.lockfile  # DVC locks with this

    path = root / ".dvc" / "tmp" / "lock"
    if not path.parent.parent.is_dir():
        yield True
        return
    path.parent.mkdir(exist_ok=True)
    try:
        held = zc.lockfile.LockFile(str(path))
    except zc.lockfile.LockError:
        yield False
        return
    try:
        yield True
    finally:
        held.close()


def replace_files() -> None:
    """Make DVC replace ``dvc.lock`` and ``dvc.yaml`` atomically in this process, instead of rewriting them in place."""
    from dvc import dvcfile

    dvcfile.modify_yaml = _modify_yaml


@contextmanager
def _modify_yaml(path: str, fs: object = None) -> Iterator[dict[str, Any]]:
    """Yield the content of a YAML file for changes, as DVC's function of this name does; write them atomically."""
    from dvc.utils.serialize import dump_yaml, parse_yaml_for_update

    target = Path(path).resolve()
    data = parse_yaml_for_update(target.read_text(encoding="utf-8"), path) if target.exists() else {}
    yield data
    with atomic_write(target) as temporary:
        dump_yaml(temporary, data)
