"""How the library's docstrings become pages: attributes as a list, and types without the checks of pydantic."""

import re
import sys
import typing
from typing import Any

from docutils import nodes
from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.typing import stringify_annotation


def _list_attributes(app: Sphinx, what: str, name: str, described: Any, options: Any, lines: list[str]) -> None:
    """Lines ``name: what it is`` in the docstring of a class become fields, in place, with what continues them."""
    bases = getattr(described, "__mro__", ())
    known = {attribute for base in bases for attribute in vars(base).get("__annotations__", {})}
    inside = False
    for position, line in enumerate(lines):
        found = re.match(r"(\w+(?:, \w+)*): (.*)", line)
        if found and set(found[1].split(", ")) <= known:
            lines[position] = f":ivar {found[1].replace(', ', ',')}: {found[2]}"  # a blank would end the name
            inside = True
        elif inside and line.strip():
            lines[position] = f"    {line}"
        else:
            inside = False


def _skip_attributes(app: Sphinx, what: str, name: str, described: Any, skip: bool, options: Any) -> bool | None:
    """The signature of a class names its fields already; what else they are stands in its docstring."""
    is_field = what == "class" and not callable(described) and not isinstance(described, (property, classmethod))
    return True if is_field else None


def _plain_signature(
    app: Sphinx, what: str, name: str, described: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """The fields of a pydantic model with their types; what they may be is checked, and shown with the parameters."""
    if what != "class" or not issubclass(described, BaseModel):
        return None
    types = {field: kind for field, kind in typing.get_type_hints(described).items() if field in described.model_fields}
    fields = [f"{field}: {stringify_annotation(kind, 'smart')}" for field, kind in types.items()]
    return f"({', '.join(['*', *fields])})" if fields else "()", returns


def _without_a_page(app: Sphinx, env: BuildEnvironment, node: nodes.Element, text: nodes.TextElement) -> Any:
    """A type variable, or a constant, of a module is there, but has no place to link to."""
    module, _, name = node.get("reftarget", "").rpartition(".")
    found = sys.modules.get(module or node.get("py:module", ""))
    is_one = isinstance(getattr(found, name, None), typing.TypeVar) or node.get("reftype") == "data"
    return text if hasattr(found, name) and is_one else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Listen to autodoc."""
    app.connect("autodoc-process-docstring", _list_attributes)
    app.connect("autodoc-process-signature", _plain_signature)
    app.connect("autodoc-skip-member", _skip_attributes)
    app.connect("missing-reference", _without_a_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
