"""Progress bars on a terminal, and nothing in a log."""

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def progress(items: Iterable[Item], description: str, total: int) -> Iterable[Item]:
    """The items, with a bar on stderr that goes away when they end."""
    console = Console(stderr=True)
    return track(items, description, total, console=console, transient=True, disable=not console.is_terminal)
