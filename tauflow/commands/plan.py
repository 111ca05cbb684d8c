"""``tauflow plan``: what a reproduction would run, and why."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from tauflow.commands.console import checked_parameters, note, one_line_errors
from tauflow.commands.output import emit

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.config import Parameters
    from tauflow.estimating import Estimate
    from tauflow.planning import PlannedStage


def plan(
    targets: Annotated[list[str] | None, typer.Argument(metavar="[STAGE]...", show_default=False)] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="What it would cost, from a few steps and images on this device.")
    ] = False,
) -> None:
    """Show what `tauflow repro` would run and why, without running anything.

    By kind of stage how many are stale, then every stale one with what changed. Those that only come after others
    run if the outputs of these do change. Nothing is locked, so it may be asked while stages run.

    With `--estimate` instead epochs, steps, disk, GPU memory and time of what is stale, one stage after another, for
    any suite and model, whose data and weights need not be here: every recipe trains for a moment on random images, on
    the device that params.yaml names. A minute on a GPU, longer on a CPU.

    For example: `tauflow plan`, or with all that it depends on, `tauflow plan addition@mini-clip-ntk`.
    """
    parameters = checked_parameters()
    with one_line_errors():
        from tauflow.planning import plan as planned  # imports a good part of DVC

        stages = planned(targets or [])
    stale = [stage for stage in stages if stage.stale]
    if estimate:
        with one_line_errors():
            _emit_estimate(parameters, stale)
        return
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


def _emit_estimate(parameters: "Parameters", stale: list["PlannedStage"]) -> None:
    import pandas as pd
    import torch

    from pipeline.devices import prepare_device
    from tauflow.estimating import estimate

    device = prepare_device(parameters.device)
    found = estimate(parameters, [stage.name for stage in stale], device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    table = pd.DataFrame([*(_costs(row) for row in found), _total(found)])
    emit(table, f"Estimated on {name}, {parameters.suite}: {len(stale)} stale stages, one after another")
    for text in _reservations(found, stale, device.type):
        note(text)


def _costs(row: "Estimate") -> dict[str, str]:
    return {
        "stage": row.group,
        "instances": str(row.instances),
        "epochs": f"{row.epochs:.0f}" if row.epochs else "",
        "steps": str(row.steps or ""),
        "disk": _size(row.written_bytes),
        "GPU memory": _size(row.peak_bytes or 0),
        "time": _duration(row.seconds),
    }


def _total(rows: list["Estimate"]) -> dict[str, str]:
    return {
        "stage": "total",
        "instances": str(sum(row.instances for row in rows)),
        "epochs": f"{sum(row.epochs for row in rows):.0f}",
        "steps": str(sum(row.steps for row in rows)),
        "disk": _size(sum(row.written_bytes for row in rows)),
        "GPU memory": _size(max((row.peak_bytes or 0 for row in rows), default=0)),
        "time": _duration(sum(row.seconds for row in rows)),
    }


def _reservations(rows: list["Estimate"], stale: list["PlannedStage"], device: str) -> Iterator[str]:
    """What the table does not say."""
    counted = {row.group.partition(" ")[0] for row in rows}
    rest = list(dict.fromkeys(stage.kind for stage in stale if stage.kind not in counted))
    if rest:
        yield f"not estimated: {', '.join(rest)}"
    unknown = list(dict.fromkeys(task for row in rows for task in row.unknown))
    if unknown:
        yield f"nobody knows the size of {', '.join(unknown)} before they are prepared; what needs it is left out"
    if device == "cpu":
        yield "GPU memory is not measured on a CPU; what would take seconds there was measured on fewer images"


def _size(n: int) -> str:
    if not n:
        return ""
    return f"{n / 2**30:.1f} GiB" if n >= 2**30 else f"{n / 2**20:.1f} MiB"


def _duration(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.0f} s" if seconds else ""
