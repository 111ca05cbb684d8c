"""Functions by name: what a recipe's YAML may ask for."""

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
            UserError: Tauflow itself has registered something under that name.
        """

        def register(function: Function) -> Function:
            if name in self._functions and self._functions[name].__module__.startswith("pipeline."):
                raise UserError(f"{self.kind}: {name!r} is one of Tauflow's own; take another name")
            self._functions[name] = function
            return function

        return register

    def find(self, name: str) -> Function:
        """The function of that name.

        Raises:
            UserError: there is none.
        """
        if name not in self._functions:
            raise UserError(f"{self.kind}: {name!r} is unknown; legal are {', '.join(sorted(self._functions))}")
        return self._functions[name]
