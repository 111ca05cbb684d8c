"""``tauflow collect``: collect the results of several seeds."""

from typing import Annotated

import typer

from artifacts import layout
from tauflow.commands.console import one_line_errors


def collect_seeds(
    experiments: Annotated[list[str] | None, typer.Argument(metavar="[EXPERIMENT]...", show_default=False)] = None,
) -> None:
    """Collect the results of several seeds from DVC experiments in reports/seeds, for the report to pool.

    After `dvc exp run --queue -S seed=0,1,2` and `dvc queue start`: `tauflow collect`. Without names it takes the
    working tree (`workspace`) and all experiments of the current commit whose parameters differ only in the seed.
    """
    from tauflow.comparing.seeds import collect  # imports a good part of DVC

    with one_line_errors():
        seeds = collect(experiments or [], print)
    print(f"{layout.SEEDS}: seeds {', '.join(map(str, seeds))}; `tauflow repro -s report` pools them")
