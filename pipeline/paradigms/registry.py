"""Registries: functions that a recipe names in YAML."""

from collections.abc import Callable
from typing import Generic, TypeVar

from pipeline.errors import UserError

Function = TypeVar("Function", bound=Callable[..., object])


class Registry(Generic[Function]):
    """Decorated functions of one kind, such as selections."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._functions: dict[str, Function] = {}

    def __call__(self, name: str) -> Callable[[Function], Function]:
        """Decorate a function to register it under a name.

        Raises:
            UserError: the name belongs to one of Tauflow's own functions.
        """

        def register(function: Function) -> Function:
            if name in self._functions and self._functions[name].__module__.startswith("pipeline."):
                raise UserError(f"{self.kind} {name!r} is already defined by Tauflow; choose another name")
            self._functions[name] = function
            return function

        return register

    def find(self, name: str) -> Function:
        """Return the function registered under a name.

        Raises:
            UserError: the name is unknown.
        """
        if name not in self._functions:
            raise UserError(f"unknown {self.kind} {name!r}; choose from {', '.join(sorted(self._functions))}")
        return self._functions[name]
