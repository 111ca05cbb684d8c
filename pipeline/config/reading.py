"""Read YAML as DVC does: YAML 1.2, without duplicate keys, and bounded, so that no file exhausts stack or memory."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from pipeline.config.names import short
from pipeline.errors import UserError

# For files that people write. dvc.lock, which DVC writes, grows with the study.
MAX_BYTES = 1_000_000
MAX_BYTES_OF_LOCK = 200_000_000
MAX_DEPTH = 64
# An alias repeats its value, so a few nested aliases could stand for billions of values.
MAX_ALIASES = 200
# Maximum length of a parser's message, in characters.
_MAX_MESSAGE = 200


def read_yaml(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """Read a YAML file in DVC's dialect; ``None`` if it is empty.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is not a file, not valid YAML, too large or too deeply nested.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise UserError(f"{path}: {size} bytes, more than the {max_bytes} that are read; is it the right file?")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid YAML: not UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML in DVC's dialect; ``None`` if it is empty.

    Args:
        text: the YAML.
        source: the name of the text in messages.

    Raises:
        UserError: it is not valid YAML or too deeply nested.
    """
    try:
        _check_bounds(text)
        return YAML(typ="safe").load(text)
    # The constructors of ruamel.yaml raise all of these for values that do not fit their tag or form.
    except (YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise UserError(f"{source}: not valid YAML: {_reason(error)}") from None


def _check_bounds(text: str) -> None:
    """Raise a ``ValueError`` if YAML is nested too deeply, or uses too many aliases, to be loaded.

    Iterating over the parser's events takes no stack, while the loader crashes on 10⁵ levels.
    """
    anchors: list[str | None] = []  # anchors of the collections around an event
    aliases = 0
    for event in YAML(typ="safe").parse(text):
        if isinstance(event, CollectionStartEvent):
            anchors.append(event.anchor)
            if len(anchors) > MAX_DEPTH:
                raise ValueError(f"line {event.start_mark.line + 1}: more than {MAX_DEPTH} levels deep")
        elif isinstance(event, CollectionEndEvent):
            anchors.pop()
        elif isinstance(event, AliasEvent):
            aliases += 1
            if any(anchors):
                raise ValueError(f"line {event.start_mark.line + 1}: an alias inside a value that has an anchor")
            if aliases > MAX_ALIASES:
                raise ValueError(f"line {event.start_mark.line + 1}: more than {MAX_ALIASES} aliases")


def _reason(error: Exception) -> str:
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        reason = where + (error.problem or error.context or type(error).__name__)
    else:
        reason = str(error)
    reason = " ".join(reason.split())
    return reason if len(reason) <= _MAX_MESSAGE else short(reason)
