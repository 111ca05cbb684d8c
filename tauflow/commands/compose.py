"""``tauflow compose``: write params.yaml."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from artifacts.workspace import PARAMETERS
from tauflow.commands.console import checked_parameters, one_line_errors

if TYPE_CHECKING:
    from pipeline.config import Parameters

_WIDTH = 80


def compose_parameters(overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None) -> None:
    """Compose params.yaml from conf/, as `dvc exp run -S` does, without running anything.

    For example: `tauflow compose paradigm=all seed=1`.
    """
    from tauflow.dvc.composition import compose  # imports a good part of DVC

    with one_line_errors():
        compose(Path(), overrides or [])
    print(f"{PARAMETERS}: written")
    parameters = checked_parameters()
    with one_line_errors():
        _show(parameters)


def _show(parameters: "Parameters") -> None:
    """Print what was composed, and the next command."""
    from artifacts.instances import read_instances

    instances = read_instances(parameters)
    stages = len({instance.stage for instance in instances.values()})
    rows = {
        f"suite {parameters.suite}": f"{', '.join(parameters.tasks)}; control {parameters.control}",
        "models": ", ".join(parameters.models),
        "paradigms": ", ".join(parameters.paradigms),
        "seed": str(parameters.seed),
        "runs": f"{len(instances)} instances of {stages} stages",
    }
    for name, value in rows.items():
        print(textwrap.fill(value, _WIDTH, initial_indent=f"  {name:12} ", subsequent_indent=" " * 15))
    print("Next: `tauflow plan` shows which of them are up to date, `tauflow repro summary` runs up to the table.")
