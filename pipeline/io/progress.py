"""Progress bars on a terminal; nothing is printed to a log."""

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def progress(
    items: Iterable[Item], description: str, total: int, completed: int = 0, shown: bool = True
) -> Iterable[Item]:
    """Yield the items with a transient bar on stderr; ``completed`` of ``total`` items were done before."""
    console = Console(stderr=True)
    disable = not (shown and console.is_terminal)
    return track(items, description, total, completed, console=console, transient=True, disable=disable)
