"""Definitions in YAML files of the library, looked up by name: the tasks and the models."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from pipeline.config.names import Name
from pipeline.config.validation import load_yaml
from pipeline.errors import UserError


class Definition(BaseModel):
    """A definition, or a part of one: frozen, unknown keys rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NamedDefinition(Definition):
    """A definition that carries the name by which it is looked up."""

    name: Name


Named = TypeVar("Named", bound=NamedDefinition)


def load_definition(kind: str, name: str, files: Mapping[str, Path], schema: type[Named]) -> Named:
    """Return the definition of that name.

    Args:
        kind: the word for it in messages, such as ``task``.
        name: its name.
        files: the file of each definition, by the name that the definition must carry.
        schema: the model that the file must fit.

    Raises:
        UserError: there is no such definition, or its file is invalid or carries another name.
    """
    if name not in files:
        raise UserError(f"unknown {kind} {name!r}; choose from {', '.join(sorted(files))}")
    definition = load_yaml(files[name], schema)
    if definition.name != name:
        raise UserError(f"{files[name]}: name is {definition.name!r}; it must be {name!r}, as in the path")
    return definition
