"""Read the DAG from DVC: its stages, and those that may have to run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvc.dependency.param import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import get_active_graph, plan_repro

from pipeline.errors import UserError, one_line
from tauflow.jobs.queue import Job

if TYPE_CHECKING:
    from dvc.stage import Stage

# A stage that depends on this parameter computes on the chosen device.
DEVICE = "device"


@dataclass(frozen=True)
class Dag:
    """The jobs in topological order, and the stages that are up to date whatever the jobs write."""

    jobs: Mapping[str, Job]
    unchanged: Sequence[str]


def read_dag(targets: Sequence[str], force: bool = False) -> Dag:
    """Return the stages that DVC finds stale, as jobs.

    A stage that depends on a stale one counts as stale; once its inputs are known, DVC decides whether it must run.

    Args:
        targets: stages to read, with all their dependencies; if empty, all stages of dvc.yaml.
        force: treat every stage as stale.

    Raises:
        UserError: a target is unknown, dvc.yaml is wrong, or another DVC process holds the repository.
    """
    jobs: dict[str, Job] = {}
    unchanged = []
    try:
        with Repo() as repo, lock_repo(repo):
            graph = get_active_graph(repo.index.graph)
            wanted = [stage for target in targets for stage in repo.stage.collect(target)]
            for stage in plan_repro(graph, wanted or None):
                needs = frozenset(needed.addressing for needed in graph.successors(stage)) & jobs.keys()
                if force or needs or stage.changed():
                    jobs[stage.addressing] = Job(stage.addressing, needs, _on_device(stage))
                else:
                    unchanged.append(stage.addressing)
    except DvcException as error:
        raise UserError(f"dvc: {one_line(error)}") from None
    return Dag(jobs, unchanged)


def _on_device(stage: "Stage") -> bool:
    return any(DEVICE in dep.params for dep in stage.deps if isinstance(dep, ParamsDependency))
