"""Write entries of ``dvc.lock`` without parsing the whole file.

For every stage that ends, DVC parses the lock and writes all of it again, with a parser and an emitter in Python: with
400 stages this takes longer than most stages do. In a process that called :func:`install`, an entry is written as DVC
writes it and takes the place of the old one in the text. The file has the same bytes, and is replaced atomically.

This holds for a text that DVC would write back unchanged. Whether it would is checked by doing so, once: the hash of
the last text that passed is kept, and an entry that passes leaves a text that does. Any other text, such as one with a
user's comments, is written by DVC's own functions.
"""

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvc.dvcfile import Lockfile
from dvc.stage.serialize import to_lockfile
from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update

from pipeline.io.files import write_text
from tauflow.dvc.guard import HEADER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dvc.stage import PipelineStage

logger = logging.getLogger(f"dvc.{__name__}")  # below DVC's logger, which has the handlers

# Holds the SHA-256 of the last text that DVC would write back unchanged.
FORM = Path(".tauflow", "lock-form")
# The first line of an entry; those of its content are indented further.
_ENTRY = re.compile(r"^  (?=[^\s#?-]).*:$", re.MULTILINE)
# Comments, anchors and aliases, which concern other entries as well, and other sections than the stages.
_UNSUPPORTED = re.compile(r"(^|\s)#|[:-] [&*]|^\S", re.MULTILINE)


def install() -> None:
    """Make DVC write its locks through this module, in this process."""
    setattr(Lockfile, Lockfile.dump_stages.__name__, _dump_stages)


def _dump_stages(lockfile: Lockfile, stages: "Sequence[PipelineStage]", **options: Any) -> None:
    """Write the entries of stages; replaces ``Lockfile.dump_stages``."""
    if not stages:
        return
    entries = {name: entry for stage in stages for name, entry in to_lockfile(stage, **options).items()}
    path = Path(lockfile.path).resolve()  # the file behind a symbolic link
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    form = path.parent / FORM
    after = updated(before, entries, str(path), form)
    write_text(path, after)
    if after != before:
        logger.info("%s lock file '%s'", "Updating" if before else "Generating", lockfile.relpath)
        lockfile.repo.scm_context.track_file(lockfile.relpath)


def updated(text: str, entries: Mapping[str, Mapping[str, Any]], name: str, form: Path) -> str:
    """Return the text of a lock in which entries are replaced in their places, or appended.

    Args:
        text: the lock; empty if there is none.
        entries: entries by stage instance, as DVC serialises them.
        name: names the lock in errors.
        form: file with the hash of a text that DVC would write back unchanged; it is kept up to date.
    """
    if _is_known(text, form) or _is_stable(text, name):
        new = {
            stage: dumps_yaml({"stages": {stage: entry}}).removeprefix("stages:\n") for stage, entry in entries.items()
        }
        spliced = _spliced(text, new.values())
        if spliced is not None:
            # DVC writes some values, such as 3.248155056446681e-298, in another way the second time.
            if all(_is_stable(HEADER + block, name) for block in new.values()):
                write_text(form, _digest(spliced))
            return spliced
    data = parse_yaml_for_update(text, name) if text else {}
    if not data:
        data["schema"] = "2.0"  # first, as DVC has it
    data.setdefault("stages", {}).update(entries)
    return dumps_yaml(data)


def _spliced(text: str, new: Iterable[str]) -> str | None:
    """Return the text with entries replaced or appended; ``None`` if either has something that is not supported."""
    body = text.removeprefix(HEADER)
    if not text.startswith(HEADER) or not body or _UNSUPPORTED.search(body):
        return None
    blocks = _blocks(body)
    for block in new:
        if _UNSUPPORTED.search(block) or len(_blocks(block)) != 1:
            return None
        blocks |= _blocks(block)
    return HEADER + "".join(blocks.values())


def _blocks(body: str) -> dict[str, str]:
    """Return the entries' texts by their first lines."""
    starts = [match.start() for match in _ENTRY.finditer(body)]
    texts = [body[start:end] for start, end in zip(starts, [*starts[1:], len(body)], strict=True)]
    return {text.partition("\n")[0]: text for text in texts} if starts and starts[0] == 0 else {}


def _is_known(text: str, form: Path) -> bool:
    return form.exists() and form.read_text(encoding="utf-8") == _digest(text)


def _is_stable(text: str, name: str) -> bool:
    """Return whether DVC would write a text back unchanged; this takes as long as DVC's own writing."""
    return text.startswith(HEADER) and dumps_yaml(parse_yaml_for_update(text, name)) == text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
