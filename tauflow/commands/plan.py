"""``tauflow plan``: show what a reproduction would run, and why."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tauflow.commands.console import checked_parameters, note, one_line_errors
from tauflow.commands.output import WideOption, emit

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.config import Parameters
    from tauflow.planning.estimate import StageCost
    from tauflow.planning.stale import PlannedStage


def plan(
    targets: Annotated[list[str] | None, typer.Argument(metavar="[STAGE]...", show_default=False)] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Estimate the cost from a few steps and images on this device.")
    ] = False,
    wide: WideOption = False,
) -> None:
    """Show what `tauflow repro` would run and why, without running anything.

    For each stage: how many instances are stale, and why. With names of stages or `--wide`, every stale instance with
    what changed. Instances that only come after others run if the outputs of those do change. Nothing is locked, so it
    works while stages run.

    With `--estimate` it shows epochs, steps, disk, GPU memory and time of the stale stages instead, run one after
    another. A stage that has run here before counts with the time that it took. For the others every recipe trains
    briefly on random images on the device that params.yaml names, without their data and weights: this takes a minute
    on a GPU, longer on a CPU.

    For example: `tauflow plan`, or for a stage and its dependencies, `tauflow plan addition@mini-clip-ntk`.
    """
    parameters = checked_parameters()
    with one_line_errors():
        from tauflow.planning.stale import plan as planned  # imports a good part of DVC

        stages = planned(targets or [])
    stale = [stage for stage in stages if stage.stale]
    if estimate:
        with one_line_errors():
            _emit_estimate(parameters, stale, wide)
        return
    emit(_kinds(stages), f"Suite {parameters.suite}: {len(stale)} of {len(stages)} stages are stale", wide=wide)
    if not stale:
        print("Nothing to do.")
    elif targets or wide:
        emit(_stale(stale), "Stale", wide=wide)
    else:
        print("--wide lists every instance, --estimate says how long they take.")


def _kinds(stages: list["PlannedStage"]) -> "pd.DataFrame":
    import pandas as pd

    by_kind: dict[str, list[PlannedStage]] = {}
    for stage in stages:
        by_kind.setdefault(stage.kind, []).append(stage)
    return pd.DataFrame([_kind(kind, members) for kind, members in by_kind.items()])


def _kind(kind: str, stages: list["PlannedStage"]) -> dict[str, str]:
    stale = [stage for stage in stages if stage.stale]
    return {
        "stage": kind,
        "stale": str(len(stale)),
        "up to date": str(len(stages) - len(stale)),
        "why": _common(stale),
    }


def _common(stale: list["PlannedStage"]) -> str:
    """Return why stages of a kind are stale: the most frequent reason, and how many have others."""
    reasons = Counter(reason for stage in stale for reason in stage.reasons)
    if not reasons:
        kinds = dict.fromkeys(name.partition("@")[0] for stage in stale for name in stage.after)
        return f"after {', '.join(kinds)}" if kinds else ""
    reason, count = reasons.most_common(1)[0]
    return f"{reason}, and {len(stale) - count} for other reasons" if count < len(stale) else reason


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


def _emit_estimate(parameters: "Parameters", stale: list["PlannedStage"], wide: bool) -> None:
    import pandas as pd
    import torch

    from pipeline.models.devices import prepare_device
    from tauflow.planning.estimate import estimate
    from tauflow.planning.measured import measured
    from tauflow.tracking.times import read_times

    device, names = prepare_device(parameters.device), [stage.name for stage in stale]
    times = measured(read_times()[0], parameters.suite, names)
    with _saying() as say:
        rows = estimate(parameters, names, device, times, say)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    table = pd.DataFrame([*(_costs(row) for row in rows), _total(rows)])
    title = f"Estimated on {name}, suite {parameters.suite}: {len(stale)} stale stages, one after another"
    emit(table, title, wide=wide, optional=("epochs", "GPU memory", "steps", "disk"))
    for text in _omissions(rows, stale, device.type):
        note(text)


@contextmanager
def _saying() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows what is being measured: in one line on a terminal, as notes elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield note
        return
    with console.status("measuring") as status:
        yield status.update


def _costs(row: "StageCost") -> dict[str, str]:
    return {
        "stage": row.group,
        "instances": str(row.instances),
        "epochs": f"{row.epochs:.0f}" if row.epochs else "",
        "steps": str(row.steps or ""),
        "disk": _size(row.written_bytes),
        "GPU memory": _size(row.peak_bytes or 0),
        "time": _duration(row.seconds),
        "known from": _basis(row.measured, row.instances),
    }


def _basis(measured: int, instances: int) -> str:
    """Return what a time is known from: earlier runs here, or a few steps and images."""
    if not measured:
        return "a few steps"
    return "earlier runs" if measured == instances else f"earlier runs, {instances - measured} a few steps"


def _total(rows: list["StageCost"]) -> dict[str, str]:
    return {
        "stage": "total",
        "instances": str(sum(row.instances for row in rows)),
        "epochs": f"{sum(row.epochs for row in rows):.0f}",
        "steps": str(sum(row.steps for row in rows)),
        "disk": _size(sum(row.written_bytes for row in rows)),
        "GPU memory": _size(max((row.peak_bytes or 0 for row in rows), default=0)),
        "time": _duration(sum(row.seconds for row in rows)),
        "known from": _basis(sum(row.measured for row in rows), sum(row.instances for row in rows)),
    }


def _omissions(rows: list["StageCost"], stale: list["PlannedStage"], device: str) -> Iterator[str]:
    """Yield notes on what the table leaves out, and on how sure it is."""
    counted = {row.group.partition(" ")[0] for row in rows}
    omitted = list(dict.fromkeys(stage.kind for stage in stale if stage.kind not in counted))
    if omitted:
        yield f"not estimated: {', '.join(omitted)}"
    unknown = list(dict.fromkeys(task for row in rows for task in row.unknown))
    if unknown:
        yield f"size unknown until prepared: {', '.join(unknown)}; stages that depend on it are not included"
    timed = [row for row in rows if row.measured < row.instances]
    if not timed:
        yield "every time was measured in an earlier run on this machine"
        return
    yield "times from a few steps leave out the start of processes and DVC, and may be off by a factor of 2"
    if device == "cpu":
        yield "GPU memory is not measured on a CPU, and slow measurements use fewer images"


def _size(n: int) -> str:
    if not n:
        return ""
    return f"{n / 2**30:.1f} GiB" if n >= 2**30 else f"{n / 2**20:.1f} MiB"


def _duration(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.0f} s" if seconds else ""
