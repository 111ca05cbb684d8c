"""Reading YAML into a model, with one line for each mistake: the key, the value and the legal ones."""

import typing
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import TypeGuard, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.config.parameters import Parameters
from pipeline.errors import UserError

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class LegalNames:
    """Names that the registries of the layers above define."""

    tasks: list[str]
    models: list[str]


def load_parameters(path: Path, legal: LegalNames | None = None) -> Parameters:
    """Read and check ``params.yaml``.

    Args:
        path: the file.
        legal: the tasks and models that exist; ``None`` skips that check.

    Raises:
        UserError: one line for the first mistake.
    """
    return load_yaml(path, Parameters, legal)


def load_yaml(path: Path, model: type[Model], context: LegalNames | None = None) -> Model:
    """Read a YAML file into a pydantic model.

    Raises:
        UserError: the file is missing, is no YAML, or does not fit the model.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the root of the repository") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds {content!r} instead of keys and values; legal keys are {_keys(model)}")
    try:
        return checked(content, model, context)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def checked(content: object, model: type[Model], context: LegalNames | None = None) -> Model:
    """Content in the form of a pydantic model.

    Raises:
        UserError: one line for the first mistake.
    """
    try:
        return model.model_validate(content, context=context)
    except ValidationError as error:
        # A misspelt key is unknown and, under its right name, missing: the former says more.
        details = sorted(error.errors(), key=lambda d: d["type"] != "extra_forbidden")
        more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
        raise UserError(f"{_one_line(details[0], model)}{more}") from None


def _one_line(details: ErrorDetails, model: type[BaseModel]) -> str:
    location = details["loc"]
    key = ".".join(str(part) for part in location)
    if details["type"] == "extra_forbidden":
        parent = _model_at(model, location[:-1])
        legal = _keys(parent) if parent else "none"
        return f"unknown key {key!r} (value {details['input']!r}); legal keys here are {legal}"
    if details["type"] == "missing":
        return f"key {key!r} is missing"
    message = details["msg"].removeprefix("Value error, ")
    if details["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: {details['input']!r} is not legal: {message}"


def _keys(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields)


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The section that a validation error's location points into."""
    annotation: object = model
    for part in location:
        if _is_section(annotation):
            annotation = annotation.model_fields[str(part)].annotation
        elif typing.get_origin(annotation) in (dict, list):
            annotation = typing.get_args(annotation)[-1]
        elif _is_union(annotation):  # a tagged one, whose error locations name the tag
            sections = [a for a in typing.get_args(annotation) if _is_section(a)]
            annotation = next((s for s in sections if part in _tags(s)), None)
        if _is_union(annotation):
            sections = [a for a in typing.get_args(annotation) if _is_section(a)]
            annotation = sections[0] if len(sections) == 1 else annotation
    return annotation if _is_section(annotation) else None


def _is_section(annotation: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_union(annotation: object) -> bool:
    return typing.get_origin(annotation) in (typing.Union, UnionType)


def _tags(section: type[BaseModel]) -> set[object]:
    return {tag for field in section.model_fields.values() for tag in typing.get_args(field.annotation)}
