"""Read YAML into pydantic models; a mistake becomes one line with the key, the value and the legal values."""

import re
import typing
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import TypeGuard, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.config.derived import Parameters
from pipeline.config.names import check_name, short
from pipeline.config.reading import read_yaml
from pipeline.errors import UserError

Model = TypeVar("Model", bound=BaseModel)

# Keys that can be printed unchanged; others may hold anything.
_PLAIN_KEY = re.compile(r"[\w-]{1,64}")


@dataclass(frozen=True)
class LegalNames:
    """Names of the tasks and models that have a definition.

    Raises:
        UserError: the file of a definition is not named by a legal name.
    """

    tasks: list[str]
    models: list[str]

    def __post_init__(self) -> None:
        for kind, names in (("tasks", self.tasks), ("models", self.models)):
            for name in names:
                check_file_name(f"pipeline/definitions/{kind}", name)


def check_file_name(directory: str, name: str) -> None:
    """Check that a file in a directory of named definitions has a legal name.

    Raises:
        UserError: it does not.
    """
    try:
        check_name(name)
    except ValueError as error:
        raise UserError(f"{directory}: {error}; rename the file") from None


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
        UserError: the file is missing, not YAML, or does not fit the model.
    """
    try:
        content = read_yaml(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the root of the repository") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds {short(content)} instead of keys and values; its keys are {_keys(model)}")
    try:
        return checked(content, model, context)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def checked(content: object, model: type[Model], context: LegalNames | None = None) -> Model:
    """Return content as a pydantic model.

    Raises:
        UserError: one line for the first mistake.
    """
    try:
        return model.model_validate(content, context=context)
    except ValidationError as error:
        # A misspelt key is reported as unknown, and its correct name as missing; the former is more helpful.
        details = sorted(error.errors(), key=lambda d: d["type"] != "extra_forbidden")
        more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
        raise UserError(f"{_one_line(details[0], model)}{more}") from None


def _one_line(details: ErrorDetails, model: type[BaseModel]) -> str:
    location = details["loc"]
    if location[-1:] == ("[key]",):  # pydantic's mark of a mistake in the key itself, which its message quotes
        location = location[:-2]
    key = ".".join(_key(part) for part in location)
    if details["type"] == "extra_forbidden":
        parent = _model_at(model, location[:-1])
        legal = _keys(parent) if parent else "none"
        return f"unknown key {key!r} (value {short(details['input'])}); choose from {legal}"
    if details["type"] == "missing":
        return f"key {key!r} is missing"
    message = details["msg"].removeprefix("Value error, ")
    if details["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: {short(details['input'])} is invalid: {message}"


def _key(part: int | str) -> str:
    text = str(part)
    return text if _PLAIN_KEY.fullmatch(text) else short(text)


def _keys(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields)


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """Return the section that a validation error's location points into."""
    annotation: object = model
    for part in location:
        if _is_section(annotation):
            annotation = annotation.model_fields[str(part)].annotation
        elif typing.get_origin(annotation) in (dict, list):
            annotation = typing.get_args(annotation)[-1]
        elif _is_union(annotation):  # a tagged union, whose error locations name the tag
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
