"""Runs every stage of a project's DAG once, in its order, in forks of one process: what `dvc repro` does but for its
bookkeeping, which takes longer than the stages here. As DVC does, it checks that inputs are there, and then outputs.

    python tests/pipeline/dag.py PROJECT
"""

import importlib
import os
import runpy
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import networkx
from dvc.repo import Repo


@dataclass(frozen=True)
class Instance:
    """An instance of a stage, as DVC resolves it."""

    name: str
    command: list[str]
    inputs: list[str]
    outputs: list[str]


def instances() -> list[Instance]:
    """All of them, each after those that it depends on."""
    with Repo() as repo:
        return [
            Instance(
                stage.addressing,
                stage.cmd.split(),
                [dependency.def_path for dependency in stage.deps if dependency.def_path != "params.yaml"],
                [output.def_path for output in stage.outs],
            )
            for stage in reversed(list(networkx.topological_sort(repo.index.graph)))
        ]


def run(instance: Instance) -> None:
    """Run an instance's command in a fork.

    Raises:
        SystemExit: it failed, or a file that it declares is not there.
    """
    absent = [path for path in instance.inputs if not Path(path).exists()]
    if absent:
        sys.exit(f"{instance.name}: no {absent}")
    child = os.fork()
    if child == 0:
        os._exit(_code(instance))
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{instance.name}: failed")
    absent = [path for path in instance.outputs if not Path(path).exists()]
    if absent:
        sys.exit(f"{instance.name}: made no {absent}")


def _code(instance: Instance) -> int:
    """The exit code of a command ``python -m stages.name argument…``."""
    module, *arguments = instance.command[2:]
    sys.argv = [module, *arguments]
    code: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return 0 if code in (0, None) else 1


def main() -> None:
    """Run all instances and print their names."""
    os.chdir(sys.argv[1])
    sys.path.insert(0, str(Path.cwd()))
    found = instances()
    for name in dict.fromkeys(instance.command[2] for instance in found):  # so that forks need not import it
        importlib.import_module(name)
    for instance in found:
        print(instance.name, flush=True)
        run(instance)


if __name__ == "__main__":
    main()
