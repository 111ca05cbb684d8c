"""``tauflow check``: check params.yaml."""

from artifacts.workspace import PARAMETERS
from tauflow.commands.console import check_merging_methods, checked_parameters


def check() -> None:
    """Check params.yaml and report what is wrong with it."""
    check_merging_methods(checked_parameters())
    print(f"{PARAMETERS}: fine")
