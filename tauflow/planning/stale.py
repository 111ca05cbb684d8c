"""Ask DVC what ``dvc repro`` would run and why, without locking, running or writing anything.

The command ``dvc status`` takes DVC's lock and so fails while a stage runs; the status of single dependencies and
outputs needs no lock.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException
from dvc.output import Output
from dvc.repo import Repo
from dvc.repo.reproduce import plan_repro
from dvc.stage import PipelineStage

from pipeline.errors import UserError, one_line
from tauflow.dvc.changes import change_text, changes

# Why a stage is stale that has no entry in dvc.lock, or has one but no outputs here.
NEVER_RUN = "never run"
NEVER_RUN_HERE = "never run here"
# DVC's names for the state of a file, and ours.
_STATES = {"modified": "changed", "deleted": "missing", "new": "new", "not in cache": "not in the cache"}


@dataclass(frozen=True)
class PlannedStage:
    """A stage instance, ``finetune@mini-clip-icons-ntk``, of the kind ``finetune``.

    reasons: the changes of the instance itself.
    after: the stale instances whose outputs it reads; without other reasons, it runs only if those outputs change.
    """

    name: str
    reasons: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def kind(self) -> str:
        """The entry of ``dvc.yaml``."""
        return self.name.partition("@")[0]

    @property
    def stale(self) -> bool:
        """Return whether ``dvc repro`` would run the stage or restore it from its run cache."""
        return bool(self.reasons or self.after)


def plan(targets: Sequence[str] = ()) -> list[PlannedStage]:
    """Return all stages that ``dvc repro`` would check, in its order.

    Args:
        targets: stage instances to plan with all their dependencies; if empty, the whole DAG.

    Raises:
        UserError: this is not a DVC repository, ``dvc.yaml`` is wrong, or a target is unknown.
    """
    try:
        with Repo() as repo:
            wanted = [stage for target in targets for stage in repo.stage.collect(target)]
            stages = plan_repro(repo.index.graph, wanted or None)
            return plan_stages([stage for stage in stages if isinstance(stage, PipelineStage)])
    except DvcException as error:
        raise UserError(f"plan: {one_line(error)}; `dvc stage list` shows the stages") from None


def unrecorded() -> list[PlannedStage]:
    """Return the stage instances for which ``dvc.lock`` records a different command, code or parameters.

    Artifacts are ignored, because a fresh clone has none: a stage is judged by its command, code and parameters alone.

    Raises:
        UserError: this is not a DVC repository, or ``dvc.yaml`` is wrong.
    """
    try:
        with Repo() as repo:
            stages = [stage for stage in repo.index.stages if isinstance(stage, PipelineStage)]
            producers = {out.fs_path: str(stage.addressing) for stage in stages for out in stage.outs}
            planned = [
                PlannedStage(
                    str(stage.addressing),
                    tuple(_reasons(stage, [dep for dep in stage.deps if not _makers(dep.fs_path, producers)], ())),
                    (),
                )
                for stage in stages
            ]
            return [stage for stage in planned if stage.stale]
    except DvcException as error:
        raise UserError(f"{one_line(error)}; `dvc stage list` shows the stages") from None


def by_kind(stale: Sequence[PlannedStage]) -> list[str]:
    """Return a line per kind of stale stage, in the order of the pipeline, with the changes of its first instance."""
    kinds: defaultdict[str, list[PlannedStage]] = defaultdict(list)
    for stage in stale:
        kinds[stage.kind].append(stage)
    return [f"{kind}: {len(stages)} stale: {_first(stages[0].reasons)}" for kind, stages in kinds.items()]


def _first(reasons: Sequence[str]) -> str:
    first, *others = reasons
    return f"{first}, and {len(others)} more" if others else first


def plan_stages(stages: Sequence[PipelineStage]) -> list[PlannedStage]:
    """Return stages of an open repository, in DVC's order, with the reasons why they are stale."""
    planned = []
    stale_outputs: dict[str, str] = {}  # path → the stale stage that writes it
    for stage in stages:
        name = str(stage.addressing)
        makers = {dep.fs_path: _makers(dep.fs_path, stale_outputs) for dep in stage.deps}
        own = [dep for dep in stage.deps if not makers[dep.fs_path]]
        after = dict.fromkeys(chain.from_iterable(makers.values()))
        planned.append(PlannedStage(name, tuple(_reasons(stage, own, stage.outs)), tuple(after)))
        if planned[-1].stale:
            stale_outputs |= {out.fs_path: name for out in stage.outs}
    return planned


def _makers(path: str, stale_outputs: Mapping[str, str]) -> list[str]:
    """Return the stale stages that write a path, a file below it, or a directory that contains it."""
    if path in stale_outputs:
        return [stale_outputs[path]]
    return [
        maker
        for output, maker in stale_outputs.items()
        if output.startswith(f"{path}/") or path.startswith(f"{output}/")
    ]


def _reasons(stage: PipelineStage, dependencies: Sequence[Output], outputs: Sequence[Output]) -> Iterator[str]:
    if not any(entry.hash_info for entry in (*stage.deps, *stage.outs)):
        yield NEVER_RUN
        return
    if outputs and _were_never_here(outputs):
        yield NEVER_RUN_HERE
        return
    if stage.changed_stage():
        yield "its command changed"
    for dependency in dependencies:
        yield from _parameters(dependency) if isinstance(dependency, ParamsDependency) else _files([dependency])
    yield from _files(outputs)


def _were_never_here(outputs: Sequence[Output]) -> bool:
    """Return whether none of a stage's outputs that DVC keeps is here or in the cache, as in a fresh clone."""
    kept = [out for out in outputs if out.use_cache]
    return bool(kept) and all(not out.exists and out.changed_cache() for out in kept)


def _files(entries: Sequence[Output]) -> Iterator[str]:
    """Yield a line per state of the files, naming the first file in that state."""
    by_state: defaultdict[str, list[str]] = defaultdict(list)
    for entry in entries:
        for path, state in entry.status().items():
            by_state[state].append(path)
    for state, (path, *others) in by_state.items():
        more = f" and {len(others)} more" if others else ""
        yield f"{path}{more} {_STATES.get(state, state)}"


def _parameters(dependency: ParamsDependency) -> Iterator[str]:
    recorded = dependency.hash_info.value
    locked = recorded if isinstance(recorded, dict) else {}
    for key, before, now in changes(locked, dependency.read_params()):
        yield change_text(key, before, now)
