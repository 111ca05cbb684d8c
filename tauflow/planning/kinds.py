"""The DAG by kinds of stages: how many instances each has, how many are stale, and which kinds it needs."""

from collections import defaultdict
from collections.abc import Mapping, Set
from dataclasses import dataclass

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.reproduce import plan_repro
from dvc.stage import PipelineStage

from pipeline.errors import UserError, one_line
from tauflow.planning.stale import plan_stages


@dataclass(frozen=True)
class Kind:
    """An entry of ``dvc.yaml``.

    needs: the kinds whose outputs it reads, without those that it needs through another one anyway.
    """

    name: str
    instances: int
    stale: int
    needs: tuple[str, ...]


def kinds() -> list[Kind]:
    """Return the kinds of stages of this study, each after those that it needs, in DVC's order.

    Raises:
        UserError: this is not a DVC repository, or ``dvc.yaml`` is wrong.
    """
    needs: defaultdict[str, set[str]] = defaultdict(set)
    try:
        with Repo() as repo:
            graph = repo.index.graph
            stages = [stage for stage in plan_repro(graph) if isinstance(stage, PipelineStage)]
            for stage in stages:
                others = (other for other in graph.successors(stage) if isinstance(other, PipelineStage))
                needs[_kind(stage)] |= {_kind(other) for other in others}
            planned = plan_stages(stages)
    except DvcException as error:
        raise UserError(f"dag: {one_line(error)}") from None
    members = {name: [stage for stage in planned if stage.kind == name] for name in needs}
    return [
        Kind(name, len(stages), sum(stage.stale for stage in stages), tuple(_direct(name, needs)))
        for name, stages in members.items()
    ]


def _kind(stage: PipelineStage) -> str:
    return str(stage.addressing).partition("@")[0]


def _direct(name: str, needs: Mapping[str, Set[str]]) -> list[str]:
    """Return the kinds that a kind needs, in the order of the DAG, without those that another of them needs."""
    mine = needs[name] - {name}
    through = {
        other
        for other in mine
        for between in mine - {other}
        if other in _reachable(between, needs) and between not in _reachable(other, needs)
    }
    return [other for other in needs if other in mine - through]


def _reachable(name: str, needs: Mapping[str, Set[str]]) -> set[str]:
    reachable: set[str] = set()
    waiting = [name]
    while waiting:
        for other in needs[waiting.pop()] - reachable:
            reachable.add(other)
            waiting.append(other)
    return reachable
