"""Generate reference tables: ``<!-- project: tasks -->`` in a page becomes the table of the tasks, and so on.

New tasks, models, paradigms, parameters and commands appear on the site without an edit.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
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
# JSON Schema's terms, and ours.
_LIMITS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
_WORDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}


def tasks() -> str:
    """Return a table of the tasks: number of classes, description, licence."""
    definitions = [load_task(name) for name in task_names()]
    rows = ((f"`{task.name}`", len(task.classes), task.description, task.licence) for task in definitions)
    return _table(("task", "classes", "what it shows", "licence"), rows)


def models() -> str:
    """Return a table of the models: architecture and source of the weights."""
    rows = []
    for name in model_names():
        model = load_model_definition(name)
        weights = model.weights
        where = weights.path if isinstance(weights, CommittedWeights) else getattr(weights, "repository", weights.kind)
        rows.append((f"`{name}`", f"`{model.architecture}`", f"`{where}`", model.licence))
    return _table(("model", "architecture in open_clip", "weights", "licence"), rows)


def paradigms() -> str:
    """Return a table of the paradigms of ``conf/paradigm/``: their parts, and the comment at the top of each file."""
    files = {path: yaml.safe_load(path.read_text("utf-8")) for path in sorted((ROOT / "conf/paradigm").glob("*.yaml"))}
    recipes = {name: recipe for content in files.values() for name, recipe in content.get("recipe", {}).items()}
    rows = {}
    for path, content in files.items():
        for name, paradigm in content.get("paradigm", {}).items():
            if paradigm["recipe"] not in recipes:  # imported
                continue
            recipe = recipes[paradigm["recipe"]]
            spaces = dict.fromkeys((recipe["trained_in"], paradigm["evaluated_in"]))
            rows[name] = (
                f"`{name}`",
                " ".join(re.findall(r"^# (?!@package)(.+)$", path.read_text("utf-8"), re.MULTILINE)),
                f"`{recipe['trainable']}`",
                ", then ".join(spaces),
                _penalty(recipe["regulariser"]),
                f"`{paradigm['merging']['name']}`" if paradigm["merging"] else "",
            )
    first = files[ROOT / "conf/paradigm/all.yaml"]["paradigms"]
    ordered = [rows[name] for name in [*first, *(name for name in rows if name not in first)]]
    return _table(("paradigm", "what it is", "trains", "space", "regulariser", "merging"), ordered)


def _penalty(regulariser: dict[str, Any] | None) -> str:
    if regulariser is None:
        return ""
    mode = f", {regulariser['others']['mode']}" if regulariser["others"] else ""
    return f"`{regulariser['name']}`{mode}, λ = {regulariser['weight']}"


def parameters() -> str:
    """Return the sections of ``params.yaml``: descriptions, legal values and present values of their entries."""
    schema = Parameters.model_json_schema()
    schema = {**schema, "properties": {key: entry for key, entry in schema["properties"].items() if key != "derived"}}
    present = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
    return "\n\n".join(_section(schema, schema["$defs"], "", present))


def commands() -> str:
    """Return the help of ``tauflow`` and its commands."""
    command = typer.main.get_command(tauflow)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="tauflow"), name="tauflow")
    return text.partition("\n")[2]  # the page has a title of its own


def _section(schema: Schema, sections: Schema, key: str, present: Any) -> Iterator[str]:
    """Return the table of a section, then those of its subsections.

    In a key, ``NAME`` stands for any name, ``POSITION`` for any position in a list.
    """
    kind = schema["properties"].get("kind", {}).get("const")  # where a section may be one of several
    if kind and isinstance(present, dict) and present["kind"] != kind:
        present = None
    if key:
        yield f"### `{key}`{f', kind `{kind}`' if kind else ''}\n\n{_paragraphs(schema)}"
    entries, below = [], []
    for name, entry in schema["properties"].items():
        value = present.get(name) if isinstance(present, dict) else None
        member, inside = _member(entry)
        inner = _references(inside)
        if inner:
            path = ".".join(filter(None, (key, name, member)))
            below += [(sections[section], sections, path, None if member else value) for section in inner]
        else:
            where = readers(".".join(filter(None, (key, name))))
            known = _short(value) if present else ""
            entries.append((f"`{name}`", sentences()[schema["title"]][name], _legal(entry), known, where))
    if entries:
        yield _table(("entry", "what it is", "legal", "default", "stages that read it"), entries)
    for section in below:
        yield from _section(*section)


@cache
def sentences() -> dict[str, dict[str, str]]:
    """Return a sentence per entry, by the class of its section."""
    return yaml.safe_load((ROOT / "docs" / "reference" / "parameters.yaml").read_text("utf-8"))


@cache
def _declared() -> dict[str, list[str]]:
    """Return the parameters that each kind of stage declares, but for the two that only show what all were."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
    return {
        name: stage.get("do", stage).get("params", [])
        for name, stage in stages.items()
        if name not in ("summary", "report")
    }


def readers(key: str) -> str:
    """Return the kinds of stages that declare an entry, or a section around it."""
    chosen = key.split(".")
    # Recipes and their schedules reach the stages through what is derived from them.
    match chosen:
        case ["recipe", *rest]:
            chosen = ["derived", "recipe", *rest]
        case ["schedule", name, *rest]:
            chosen = ["derived", "recipe", name, "schedule", *rest]
        case ["incremental", "orders"]:
            chosen = ["derived", "arrivals"]
    kinds = [kind for kind, declared in _declared().items() if any(_covers(one, chosen) for one in declared)]
    return ", ".join(f"`{kind}`" for kind in kinds)


def _covers(declared: str, chosen: Sequence[str]) -> bool:
    """Return whether a declared parameter is the chosen one, contains it, or is a part of it."""
    pairs = zip(re.sub(r"\$\{[^}]*\}", "NAME", declared).split("."), chosen, strict=False)
    return all(one == other or "NAME" in (one, other) or "NAME" in one for one, other in pairs)


def _member(entry: Schema) -> tuple[str, Schema]:
    """Return the word for a member's key and a member's schema; no word and the entry itself if it has no members."""
    match entry:
        case {"additionalProperties": dict(values)}:
            return "NAME", values
        case {"items": dict(items)}:
            return "POSITION", items
    return "", entry


def _references(entry: Schema) -> list[str]:
    """Return the sections that an entry may be; empty if it is a value."""
    parts = (entry, *entry.get("anyOf", []), *entry.get("oneOf", []))
    return [part["$ref"].rpartition("/")[2] for part in parts if "$ref" in part]


def _paragraphs(schema: Schema) -> str:
    """Return the description of a section, with its attributes as a list."""
    text = schema.get("description", "").replace("``", "`")
    return re.sub(rf"^({'|'.join(schema['properties'])}): ", r"- `\1`: ", text, flags=re.MULTILINE)


def _legal(entry: Schema) -> str:
    """Describe the legal values of an entry."""
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
        case {"type": "object", "additionalProperties": dict(values)}:
            return f"by name: {_legal(values)}"
        case {"type": "object"}:
            return "values by name"
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
