"""``tauflow dag``: the kinds of stages, and what each needs."""

from tauflow.commands.console import checked_parameters, one_line_errors
from tauflow.commands.output import Format, FormatOption, OutOption, WideOption, emit


def dag(form: FormatOption = Format.table, out: OutOption = None, wide: WideOption = False) -> None:
    """Show the stages of this study by kind: how many instances, how many of them stale, and what they need.

    Kinds that another needed kind needs already are left out. `tauflow plan` says why a stage is stale, and
    `dvc stage list` names every instance.
    """
    import pandas as pd

    parameters = checked_parameters()
    with one_line_errors():
        from tauflow.planning.kinds import kinds  # imports a good part of DVC

        stage_kinds = kinds()
        rows = [
            {
                "stage": kind.name,
                "instances": str(kind.instances),
                "stale": str(kind.stale or ""),
                "needs": ", ".join(kind.needs),
            }
            for kind in stage_kinds
        ]
        total, stale = sum(kind.instances for kind in stage_kinds), sum(kind.stale for kind in stage_kinds)
        title = f"Suite {parameters.suite}: {total} stages of {len(stage_kinds)} kinds, {stale} stale"
        emit(pd.DataFrame(rows), title, form, out, wide=wide)
