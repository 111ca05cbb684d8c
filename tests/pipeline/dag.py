"""Runs every stage of a project's DAG once, in forks of one process: what `dvc repro` does but for its bookkeeping,
which takes longer than the stages here. As DVC does, it checks that inputs are there, and then outputs.

    python tests/pipeline/dag.py PROJECT --jobs 2
"""

import importlib
import json
import os
import runpy
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import networkx
import torch
import typer
from dvc.repo import Repo


@dataclass(frozen=True)
class Instance:
    """An instance of a stage, as DVC resolves it, and the instances whose outputs it needs."""

    name: str
    command: list[str]
    inputs: list[str]
    outputs: list[str]
    after: list[str]


@dataclass(frozen=True)
class Ran:
    """An instance that has run: seconds, and the peaks of resident memory and of a GPU's tensors in bytes."""

    name: str
    seconds: float
    resident: int
    gpu: int


def instances() -> list[Instance]:
    """All of them, each after those that it depends on."""
    with Repo() as repo:
        graph = repo.index.graph
        return [
            Instance(
                stage.addressing,
                stage.cmd.split(),
                [dependency.def_path for dependency in stage.deps if dependency.def_path != "params.yaml"],
                [output.def_path for output in stage.outs],
                [other.addressing for other in graph.successors(stage)],
            )
            for stage in reversed(list(networkx.topological_sort(graph)))
        ]


def run(instances: list[Instance], jobs: int) -> Iterator[Ran]:
    """Run the instances' commands in forks, ``jobs`` at once; yield them as they end.

    Raises:
        SystemExit: one failed, or a file that it declares is not there.
    """
    for name in dict.fromkeys(instance.command[2] for instance in instances):  # so that forks need not import it
        importlib.import_module(name)
    waiting, running, finished = list(instances), dict[int, tuple[Instance, float, int]](), set[str]()
    while waiting or running:
        for instance in [each for each in waiting if finished.issuperset(each.after)][: jobs - len(running)]:
            waiting.remove(instance)
            _check(instance, "no", instance.inputs)
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                os._exit(_code(instance, writer))
            os.close(writer)
            running[child] = instance, time.monotonic(), reader
        child, status, usage = os.wait4(-1, 0)
        instance, began, reader = running.pop(child)
        if status:
            sys.exit(f"{instance.name}: failed")
        _check(instance, "made no", instance.outputs)
        with os.fdopen(reader) as file:
            gpu = int(file.read())
        finished.add(instance.name)
        yield Ran(instance.name, time.monotonic() - began, usage.ru_maxrss * 1024, gpu)


def _check(instance: Instance, what: str, paths: list[str]) -> None:
    absent = [path for path in paths if not Path(path).exists()]
    if absent:
        sys.exit(f"{instance.name}: {what} {absent}")


def _code(instance: Instance, report: int) -> int:
    """The exit code of a command ``python -m stages.name``, which reports its peak of GPU memory."""
    module = instance.command[2]
    sys.argv = [module, instance.name]
    del sys.modules[module]
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
    os.write(report, str(torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else 0).encode())
    return 0 if code in (0, None) else 1


def main(project: Path, jobs: int = 1, json_file: Annotated[Path | None, typer.Option("--json")] = None) -> None:
    """Run all instances, print their names, and write what they took."""
    os.chdir(project)
    sys.path.insert(0, str(Path.cwd()))
    rows = []
    for ran in run(instances(), jobs):
        print(f"{ran.name}: {ran.seconds:.1f} s", flush=True)
        rows.append(asdict(ran))
    if json_file:
        json_file.write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
