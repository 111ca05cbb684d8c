"""Render the library's docstrings: attributes as a list, and types without pydantic's checks."""

import inspect
import re
import sys
import typing
from typing import Any

from docutils import nodes
from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.inspect import stringify_signature
from sphinx.util.typing import stringify_annotation


def _list_attributes(app: Sphinx, what: str, name: str, described: Any, options: Any, lines: list[str]) -> None:
    """Turn lines ``name: description`` in a class docstring, with their continuations, into fields in place."""
    bases = getattr(described, "__mro__", ())
    known = {attribute for base in bases for attribute in vars(base).get("__annotations__", {})}
    inside = False
    for position, line in enumerate(lines):
        match = re.match(r"(\w+(?:, \w+)*): (.*)", line)
        if match and set(match[1].split(", ")) <= known:
            lines[position] = f":ivar {match[1].replace(', ', ',')}: {match[2]}"  # a space ends a name
            inside = True
        elif inside and line.strip():
            lines[position] = f"    {line}"
        else:
            inside = False


def _skip_attributes(app: Sphinx, what: str, name: str, described: Any, skip: bool, options: Any) -> bool | None:
    """Skip attributes of classes: the signature names them, and the docstring describes them."""
    is_field = what == "class" and not callable(described) and not isinstance(described, (property, classmethod))
    return True if is_field else None


def _plain_signature(
    app: Sphinx, what: str, name: str, described: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Return a signature with types only: bounds, which pydantic checks, are shown with parameters and options."""
    if what == "function" and inspect.isfunction(described):
        return _without_bounds(described), returns
    if what != "class" or not issubclass(described, BaseModel):
        return None
    types = {field: kind for field, kind in typing.get_type_hints(described).items() if field in described.model_fields}
    fields = [f"{field}: {stringify_annotation(kind, 'smart')}" for field, kind in types.items()]
    return f"({', '.join(['*', *fields])})" if fields else "()", returns


def _without_bounds(function: Any) -> str:
    """Return a function's parameters, with ``Annotated[float, …]`` as ``float``."""
    signature = inspect.signature(function)
    plain = [
        parameter.replace(annotation=kind.__origin__) if typing.get_origin(kind) is typing.Annotated else parameter
        for parameter in signature.parameters.values()
        for kind in [parameter.annotation]
    ]
    return stringify_signature(
        signature.replace(parameters=plain), unqualified_typehints=True, show_return_annotation=False
    )


def _without_a_page(app: Sphinx, env: BuildEnvironment, node: nodes.Element, text: nodes.TextElement) -> Any:
    """Render type variables and constants of a module as text: they have no page to link to."""
    module, _, name = node.get("reftarget", "").rpartition(".")
    owner = sys.modules.get(module or node.get("py:module", ""))
    is_unlinked = isinstance(getattr(owner, name, None), typing.TypeVar) or node.get("reftype") == "data"
    return text if hasattr(owner, name) and is_unlinked else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Listen to autodoc."""
    app.connect("autodoc-process-docstring", _list_attributes)
    app.connect("autodoc-process-signature", _plain_signature)
    app.connect("autodoc-skip-member", _skip_attributes)
    app.connect("missing-reference", _without_a_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
