"""``tauflow time``: where the time of a study went."""

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import UserError
from tauflow.commands.console import checked_parameters, note, one_line_errors
from tauflow.commands.output import Format, FormatOption, OutOption, WideOption, emit

if TYPE_CHECKING:
    from tauflow.planning.accounting import Account


def time(
    last: Annotated[
        bool, typer.Option("--last", help="Only what the last command ran, also if it failed or still runs.")
    ] = False,
    form: FormatOption = Format.table,
    out: OutOption = None,
    wide: WideOption = False,
) -> None:
    """Show where the time of a study went: of each stage, of imports, of DVC, of the tracker.

    Wall and CPU seconds of the stages of params.yaml, each from its last run on this machine, even while others run.
    *own* is a stage's work, *imports* the start of its process, *DVC* what passes between two stages.
    """
    parameters = checked_parameters()
    with one_line_errors():
        import pandas as pd

        from artifacts.instances import read_instances
        from tauflow.planning.accounting import accounts, of_trackers, total
        from tauflow.tracking.times import latest, read_times

        every, trackers = read_times()
        if last:
            chosen = [stage for stage in every if stage.invocation == every[-1].invocation]
        else:
            instances = read_instances(parameters)
            chosen = [stage for name, stage in latest(every, parameters.suite).items() if name in instances]
        if not chosen:
            raise UserError(f"no stage of suite {parameters.suite} has run here yet; run `tauflow repro`")
        rows = accounts(chosen, every)
        frame = pd.DataFrame([_row(row) for row in [*rows, total(rows)]])
        title = f"Suite {parameters.suite}: seconds of wall and of CPU time"
        emit(frame, title, form, out, wide=wide, optional=("own CPU", "imports CPU", "DVC CPU"))
    note(f"the tracker (MLflow) took {of_trackers(trackers, chosen):.0f} s of CPU meanwhile")


def _row(row: "Account") -> dict[str, str]:
    return {
        "stage": row.name,
        "instances": str(row.instances),
        "wall": f"{row.wall:.1f}",
        "CPU": f"{row.total_cpu:.1f}",
        "own": f"{row.seconds:.1f}",
        "own CPU": f"{row.cpu:.1f}",
        "imports": f"{row.imports:.1f}",
        "imports CPU": f"{row.imports_cpu:.1f}",
        "DVC": f"{row.dvc:.1f}",
        "DVC CPU": f"{row.dvc_cpu:.1f}",
    }
