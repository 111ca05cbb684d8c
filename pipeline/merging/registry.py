"""Merging methods and modifiers by name, with options that are read off their functions' signatures.

A method is a pure function of one tensor's T deltas that returns T deltas; their sum is the merged tensor.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from pipeline.errors import UserError
from pipeline.merging.context import Context, Deltas, Stream
from pipeline.merging.matrices import OnMatrices
from pipeline.paradigms.registry import Registry

Sees = Literal["own task", "other tasks' unlabelled images", "other tasks' statistics", "labels of all"]
Function = Callable[..., Any]


@dataclass(frozen=True)
class Method:
    """A registered merging method or modifier.

    name, function: as registered.
    sees: what it looks at beyond the task vectors themselves.
    first_pass: called with the whole stream, before ``function``, for statistics of whole vectors.
    matrices: for methods of matrices: which tensors those are, and what happens to the others; ``None`` for
        elementwise methods.
    needs: the statistic of images that it works with.
    divisor: for methods that only add the vectors up: what their sum is divided by, given the number of tasks.
    """

    name: str
    kind: str
    function: Function
    sees: Sees
    first_pass: Callable[..., Any] | None
    matrices: OnMatrices | None
    needs: Literal["gram", "fisher"] | None
    divisor: Callable[[int], float] | None = None

    @cached_property
    def schema(self) -> type[BaseModel]:
        """The options as a pydantic model that forbids others and converts nothing."""
        fields = _options(self.function)
        if self.matrices:
            hints = get_type_hints(OnMatrices)
            fields |= {name: (hints[name], default) for name, default in asdict(self.matrices).items()}
        config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
        return create_model(self.name, __config__=config, **fields)

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all options, with defaults for those that are not given.

        Raises:
            UserError: an option is unknown, of the wrong type, or out of range.
        """
        try:
            return self.schema.model_validate(dict(given)).model_dump()
        except ValidationError as error:
            first = error.errors()[0]
        option = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            legal = ", ".join(self.schema.model_fields) or "none: it has no options"
            raise UserError(f"{self.kind} {self.name}: unknown option {option!r}; choose from {legal}")
        message = first["msg"].removeprefix("Input ")
        raise UserError(f"{self.kind} {self.name}: option {option} is {given.get(option)!r} but {message}")

    def on(self, stream: Stream, options: Mapping[str, Any]) -> Stream:
        """Return the stream as the method transforms it; nothing runs before it is iterated, but for a first pass."""
        shared = {name: options[name] for name in asdict(self.matrices)} if self.matrices else {}
        own = {name: value for name, value in options.items() if name not in shared}
        summary = None
        if self.first_pass:
            wanted = _options(self.first_pass)
            summary = self.first_pass(stream, **{name: own[name] for name in wanted})
        rule = OnMatrices(**shared)

        def tensors() -> Iterator[tuple[Context, Deltas]]:
            for context, deltas in stream:
                known = replace(context, summary=summary)
                if self.needs == "gram" and context.statistics is None:
                    yield context, rule.other(deltas)
                elif self.matrices:
                    yield context, rule.apply(self.function, deltas, known, own)
                else:
                    yield context, self.function(deltas, known, **own)

        return Stream(torch.no_grad()(tensors))


def _options(function: Callable[..., Any]) -> dict[str, Any]:
    """Return a function's keyword-only parameters as pydantic fields."""
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters.values()
    return {p.name: (hints[p.name], p.default) for p in parameters if p.kind is p.KEYWORD_ONLY}


class MethodRegistry:
    """A decorator that registers functions, and their lookup by name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._functions: Registry[Function] = Registry(kind)
        self._methods: dict[str, Method] = {}

    def __call__(
        self,
        name: str,
        *,
        sees: Sees = "own task",
        first_pass: Callable[..., Any] | None = None,
        matrices: OnMatrices | None = None,
        needs: Literal["gram", "fisher"] | None = None,
        divisor: Callable[[int], float] | None = None,
    ) -> Callable[[Function], Function]:
        """Decorate a function to register it under a name.

        Raises:
            UserError: Tauflow itself has registered something under that name.
        """

        def register(function: Function) -> Function:
            self._functions(name)(function)
            self._methods[name] = Method(name, self.kind, function, sees, first_pass, matrices, needs, divisor)
            return function

        return register

    def find(self, name: str) -> Method:
        """Return the method of that name.

        Raises:
            UserError: the name is unknown.
        """
        self._functions.find(name)
        return self._methods[name]

    def names(self) -> list[str]:
        """Return the names of all methods, sorted."""
        return sorted(self._methods)


merging = MethodRegistry("merging method")
modifier = MethodRegistry("merging modifier")
# Methods that run the encoder on images (pipeline.merging.with_images).
merging_with_images = MethodRegistry("merging method")
