"""What ``dvc repro`` would run, and why, by DVC's own word; nothing is locked, run or written in the repository.

DVC's ``status`` command takes its lock, so that it fails while a stage runs. The status of single dependencies and
outputs takes none.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException
from dvc.output import Output
from dvc.repo import Repo
from dvc.repo.reproduce import plan_repro
from dvc.stage import PipelineStage

from pipeline.errors import UserError
from tauflow.revisions import change_text, changes

# How DVC calls the state of a file, and what that means to someone who would run the stage.
_STATES = {"modified": "changed", "deleted": "missing", "new": "new", "not in cache": "not in the cache"}


@dataclass(frozen=True)
class PlannedStage:
    """A stage instance, ``finetune@mini-clip-icons-ntk``, of the kind ``finetune``.

    reasons: what changed of the instance itself.
    after: the stale instances whose outputs it reads; if nothing else changed, it runs only if these do change.
    """

    name: str
    reasons: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def kind(self) -> str:
        """The stage in ``dvc.yaml`` that it is an instance of."""
        return self.name.partition("@")[0]

    @property
    def stale(self) -> bool:
        """Whether ``dvc repro`` would run it, or restore it from its run cache."""
        return bool(self.reasons or self.after)


def plan(targets: Sequence[str] = ()) -> list[PlannedStage]:
    """All stages that ``dvc repro`` would look at, in its order.

    Args:
        targets: stage instances, which are planned with all that they depend on; none: the whole DAG.

    Raises:
        UserError: this is no DVC repository, ``dvc.yaml`` is wrong, or there is no such target.
    """
    try:
        with Repo() as repo:
            wanted = [stage for target in targets for stage in repo.stage.collect(target)]
            stages = plan_repro(repo.index.graph, wanted or None)
            return _planned([stage for stage in stages if isinstance(stage, PipelineStage)])
    except DvcException as error:
        raise UserError(f"plan: {' '.join(str(error).split())}; `dvc stage list` shows the stages") from None


def _planned(stages: Sequence[PipelineStage]) -> list[PlannedStage]:
    planned = []
    stale_outputs: dict[str, str] = {}  # the stale stage that makes each
    for stage in stages:
        name = str(stage.addressing)
        makers = {dep.fs_path: _makers(dep.fs_path, stale_outputs) for dep in stage.deps}
        own = [dep for dep in stage.deps if not makers[dep.fs_path]]
        after = dict.fromkeys(maker for found in makers.values() for maker in found)
        planned.append(PlannedStage(name, tuple(_reasons(stage, own)), tuple(after)))
        if planned[-1].stale:
            stale_outputs |= {out.fs_path: name for out in stage.outs}
    return planned


def _makers(path: str, stale_outputs: Mapping[str, str]) -> list[str]:
    """The stale stages that write a path or below it, or a directory that holds it."""
    if path in stale_outputs:
        return [stale_outputs[path]]
    return [
        maker
        for output, maker in stale_outputs.items()
        if output.startswith(f"{path}/") or path.startswith(f"{output}/")
    ]


def _reasons(stage: PipelineStage, dependencies: Sequence[Output]) -> Iterator[str]:
    if not any(entry.hash_info for entry in (*stage.deps, *stage.outs)):
        yield "never run"
        return
    if stage.changed_stage():
        yield "its command changed"
    for dependency in dependencies:
        yield from _parameters(dependency) if isinstance(dependency, ParamsDependency) else _files([dependency])
    yield from _files(stage.outs)


def _files(entries: Sequence[Output]) -> Iterator[str]:
    """A line for each state that files are in, which names one of them."""
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
