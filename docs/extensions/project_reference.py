"""Pages that follow the project: ``<!-- project: tasks -->`` in a page becomes the table of its tasks, and so on.

A new task, model, paradigm, parameter or command is on the site without an edit.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import typer
import yaml
from sphinx.application import Sphinx
from typer.cli import get_docs_for_click

from pipeline.config import Parameters
from pipeline.models.registry import CommittedWeights, load_model_definition, model_names
from pipeline.tasks.registry import load_task, task_names
from tauflow.cli import app as tauflow

ROOT = Path(__file__).parents[2]
Schema = dict[str, Any]
# JSON Schema's words, and ours.
_LIMITS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
_WORDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}


def tasks() -> str:
    """Every task: how many classes, what it shows, its licence."""
    found = [load_task(name) for name in task_names()]
    rows = ((f"`{task.name}`", len(task.classes), task.description, task.licence) for task in found)
    return _table(("task", "classes", "what it shows", "licence"), rows)


def models() -> str:
    """Every model: its architecture and where its weights come from."""
    rows = []
    for name in model_names():
        model = load_model_definition(name)
        weights = model.weights
        where = weights.path if isinstance(weights, CommittedWeights) else getattr(weights, "repository", weights.kind)
        rows.append((f"`{name}`", f"`{model.architecture}`", f"`{where}`", model.licence))
    return _table(("model", "architecture in open_clip", "weights", "licence"), rows)


def paradigms() -> str:
    """Every paradigm of ``conf/paradigm/``: its parts, and the words at the top of its file."""
    files = {path: yaml.safe_load(path.read_text("utf-8")) for path in sorted((ROOT / "conf/paradigm").glob("*.yaml"))}
    recipes = {name: recipe for content in files.values() for name, recipe in content.get("recipe", {}).items()}
    rows = {}
    for path, content in files.items():
        for name, paradigm in content.get("paradigm", {}).items():
            recipe = recipes[paradigm["recipe"]]
            spaces = dict.fromkeys((recipe["trained_in"], paradigm["evaluated_in"]))
            rows[name] = (
                f"`{name}`",
                " ".join(re.findall(r"^# (?!@package)(.+)$", path.read_text("utf-8"), re.MULTILINE)),
                f"`{recipe['trainable']}`",
                ", then ".join(spaces),
                _penalty(recipe["regulariser"]),
            )
    first = files[ROOT / "conf/paradigm/all.yaml"]["paradigms"]
    ordered = [rows[name] for name in [*first, *(name for name in rows if name not in first)]]
    return _table(("paradigm", "what it is", "trains", "space", "regulariser"), ordered)


def _penalty(regulariser: dict[str, Any] | None) -> str:
    if regulariser is None:
        return ""
    mode = f", {regulariser['others']['mode']}" if regulariser["others"] else ""
    return f"`{regulariser['name']}`{mode}, λ = {regulariser['weight']}"


def parameters() -> str:
    """The sections of ``params.yaml``: what they are, what their entries may be, and what they are now."""
    schema = Parameters.model_json_schema()
    present = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
    return "\n\n".join(_section(schema, schema["$defs"], "", present))


def commands() -> str:
    """``tauflow`` and its commands, as their help says."""
    command = typer.main.get_command(tauflow)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="tauflow"), name="tauflow")
    return text.partition("\n")[2]  # the page has a title of its own


def _section(schema: Schema, sections: Schema, key: str, present: Any) -> Iterator[str]:
    """The table of a section, then those of the sections in it; ``NAME`` in a key stands for any name."""
    kind = schema["properties"].get("kind", {}).get("const")  # where a section may be one of several
    if kind and isinstance(present, dict) and present["kind"] != kind:
        present = None
    if key:
        yield f"### `{key}`{f', kind `{kind}`' if kind else ''}\n\n{_paragraphs(schema)}"
    entries, below = [], []
    for name, entry in schema["properties"].items():
        value = present.get(name) if isinstance(present, dict) else None
        of_any_name = "additionalProperties" in entry
        found = _references(entry["additionalProperties"] if of_any_name else entry)
        if found:
            path = f"{key}.{name}".lstrip(".") + (".NAME" if of_any_name else "")
            below += [(sections[inner], sections, path, None if of_any_name else value) for inner in found]
        else:
            entries.append((f"`{name}`", _legal(entry), _short(value) if present else ""))
    if entries:
        yield _table(("entry", "legal", "now"), entries)
    for section in below:
        yield from _section(*section)


def _references(entry: Schema) -> list[str]:
    """The sections that an entry may be, if it is one."""
    parts = (entry, *entry.get("anyOf", []), *entry.get("oneOf", []))
    return [part["$ref"].rpartition("/")[2] for part in parts if "$ref" in part]


def _paragraphs(schema: Schema) -> str:
    """What a section says of itself, its attributes as a list."""
    text = schema.get("description", "").replace("``", "`")
    return re.sub(rf"^({'|'.join(schema['properties'])}): ", r"- `\1`: ", text, flags=re.MULTILINE)


def _legal(entry: Schema) -> str:
    """What an entry may be, in words."""
    match entry:
        case {"anyOf": choices}:
            return " or ".join(_legal(choice) for choice in choices)
        case {"const": only}:
            return f"`{only}`"
        case {"enum": choices}:
            return " or ".join(f"`{choice}`" for choice in choices)
        case {"type": "array", "prefixItems": items}:
            return f"list: {', '.join(_legal(item) for item in items)}"
        case {"type": "array", "items": items}:
            return f"list of {_legal(items)}"
        case {"type": "object", "additionalProperties": values}:
            return f"by name: {_legal(values)}"
        case {"type": "string", "pattern": pattern}:
            return f"`{pattern}`".replace("|", "\\|")
    limits = [f"{sign} {entry[limit]}" for limit, sign in _LIMITS.items() if limit in entry]
    return " ".join([_WORDS[entry["type"]], *limits])


def _short(value: object) -> str:
    text = ", ".join(value) if isinstance(value, list) and value and isinstance(value[0], str) else json.dumps(value)
    return f"`{text if len(text) <= 60 else f'{text[:57]}…'}`".replace('"', "")


def _table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [" | ".join(header), "|".join("---" for _ in header), *(" | ".join(map(str, row)) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


_PARTS: dict[str, Callable[[], str]] = {
    "tasks": tasks,
    "models": models,
    "paradigms": paradigms,
    "parameters": parameters,
    "commands": commands,
}


def _fill(app: Sphinx, document: str, source: list[str]) -> None:
    source[0] = re.sub(r"<!-- project: (\w+) -->", lambda found: _PARTS[found[1]](), source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Fill pages before they are parsed."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
