"""``tauflow plan``: what a reproduction would run, and why."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from tauflow.commands.console import checked_parameters, one_line_errors
from tauflow.commands.output import emit

if TYPE_CHECKING:
    import pandas as pd

    from tauflow.planning import PlannedStage


def plan(
    targets: Annotated[list[str] | None, typer.Argument(metavar="[STAGE]...", show_default=False)] = None,
) -> None:
    """Show what `tauflow repro` would run and why, without running anything.

    By kind of stage how many are stale, then every stale one with what changed. Those that only come after others
    run if the outputs of these do change. Nothing is locked, so it may be asked while stages run.

    For example: `tauflow plan`, or with all that it depends on, `tauflow plan addition@mini-clip-ntk`.
    """
    checked_parameters()
    with one_line_errors():
        from tauflow.planning import plan as planned  # imports a good part of DVC

        stages = planned(targets or [])
    stale = [stage for stage in stages if stage.stale]
    emit(_kinds(stages), f"{len(stale)} of {len(stages)} stages are stale")
    if stale:
        emit(_stale(stale), "Stale")
    else:
        print("Nothing to do.")


def _kinds(stages: list["PlannedStage"]) -> "pd.DataFrame":
    import pandas as pd

    every, stale = Counter(stage.kind for stage in stages), Counter(stage.kind for stage in stages if stage.stale)
    return pd.DataFrame(
        [{"stage": kind, "stale": str(stale[kind]), "up to date": str(n - stale[kind])} for kind, n in every.items()]
    )


def _stale(stages: list["PlannedStage"]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame([{"stage": stage.name, "why": _why(stage)} for stage in stages])


def _why(stage: "PlannedStage") -> str:
    reasons = list(stage.reasons)
    others = list(stage.after)
    if others:
        first = others.pop(0)
        reasons.append(f"after {first} and {len(others)} more" if others else f"after {first}")
    return "; ".join(reasons)
