"""What DVC says of the DAG: its stages, and which of them may have to run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvc.dependency.param import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import get_active_graph, plan_repro

from pipeline.errors import UserError
from tauflow.parallel import Task

if TYPE_CHECKING:
    from dvc.stage import Stage

# A stage with this parameter computes on the chosen device.
DEVICE = "device"


@dataclass(frozen=True)
class Dag:
    """The tasks, each after those it needs, and the stages that are up to date whatever the tasks write."""

    tasks: Mapping[str, Task]
    unchanged: Sequence[str]


def read_dag(targets: Sequence[str], force: bool = False) -> Dag:
    """Ask DVC what is stale.

    Only a stage that depends on no stale one is asked about: whether the others must run is known when those have run,
    and DVC then decides.

    Args:
        targets: stages, with all they depend on; none: all stages of dvc.yaml.
        force: take every stage for stale.

    Raises:
        UserError: a target is unknown, dvc.yaml is wrong, or another DVC process holds the repository.
    """
    tasks: dict[str, Task] = {}
    unchanged = []
    try:
        with Repo() as repo, lock_repo(repo):
            graph = get_active_graph(repo.index.graph)
            wanted = [stage for target in targets for stage in repo.stage.collect(target)]
            for stage in plan_repro(graph, wanted or None):
                needs = frozenset(needed.addressing for needed in graph.successors(stage)) & tasks.keys()
                if force or needs or stage.changed():
                    tasks[stage.addressing] = Task(stage.addressing, needs, _on_device(stage))
                else:
                    unchanged.append(stage.addressing)
    except DvcException as error:
        raise UserError(f"dvc: {' '.join(str(error).split())}") from None
    return Dag(tasks, unchanged)


def _on_device(stage: "Stage") -> bool:
    return any(DEVICE in dep.params for dep in stage.deps if isinstance(dep, ParamsDependency))
