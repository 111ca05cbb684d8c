"""Merge task vectors tensor by tensor, in memory or from files to files."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.editing import TaskVector
from pipeline.errors import UserError
from pipeline.io.tensor_files import TensorFile, write_together
from pipeline.merging.context import Context, Deltas, Stream
from pipeline.merging.matrices import block_of
from pipeline.merging.registry import Method, MethodRegistry, merging, modifier
from pipeline.merging.statistics import ImageStatistics
from pipeline.merging.steps import Step
from pipeline.models.checkpoints import Provenance, code_fingerprint, from_metadata, to_metadata

CPU = torch.device("cpu")
_Step = tuple[Method, dict[str, Any]]


@dataclass(frozen=True)
class _Source:
    """A task vector's tensors and where they come from."""

    task: str
    provenance: Provenance
    tensors: Mapping[str, Tensor] | TensorFile
    shapes: Mapping[str, tuple[int, ...]]

    def read_into(self, name: str, tensor: Tensor) -> None:
        """Read a tensor into another, zeros where the vector does not move it.

        Raises:
            UserError: it holds NaN or infinity.
        """
        if name not in self.tensors:
            tensor.zero_()
        elif isinstance(self.tensors, TensorFile):
            self.tensors.read_into(name, tensor.numpy())
        else:
            tensor.copy_(self.tensors[name])
        # A sum is much faster than a look at each entry, and is finite only if all of them are.
        if not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
            raise UserError(f"{self.provenance}: tensor {name!r} holds NaN or infinity; train it again")


def merge(
    vectors: Sequence[TaskVector],
    method: Step,
    modifiers: Sequence[Step] = (),
    statistics: Mapping[str, ImageStatistics] | None = None,
    device: torch.device = CPU,
) -> list[TaskVector]:
    """Return as many vectors as there are, whose sum is the merged one; all of them stay in memory.

    Args:
        vectors: one per task, from the same θ₀.
        method, modifiers: the steps, in this order.
        statistics: statistics of each task's images, by task, for methods that need them.
        device: where to compute; results are on the CPU.

    Raises:
        UserError: a name or an option is wrong, the vectors do not fit together, or statistics are missing.
    """
    sources = [_in_memory(vector) for vector in vectors]
    steps = _resolve(method, modifiers)
    shapes = _common_shapes(sources)
    results: list[dict[str, Tensor]] = [{} for _ in vectors]
    for context, deltas in _run(sources, shapes, steps, statistics or {}, device):
        for result, delta in zip(results, deltas.cpu(), strict=True):
            result[context.name] = delta.clone()
    return [TaskVector(result, vector.provenance) for result, vector in zip(results, vectors, strict=True)]


def merge_sum(
    vectors: Sequence[TaskVector],
    method: Step,
    device: torch.device = CPU,
    modifiers: Sequence[Step] = (),
    statistics: Mapping[str, ImageStatistics] | None = None,
) -> TaskVector:
    """Return the merged vector alone, in less time than its parts take, with one tensor of all tasks in memory.

    Args:
        vectors, method, modifiers, statistics, device: as for :func:`merge`.

    Raises:
        UserError: as for :func:`merge`.
    """
    sources = [_in_memory(vector) for vector in vectors]
    return _sum(sources, _resolve(method, modifiers), statistics or {}, device)


def merge_files(
    sources: Mapping[str, Path],
    method: Step,
    modifiers: Sequence[Step] = (),
    statistics: Mapping[str, Path] | None = None,
    device: torch.device = CPU,
) -> tuple[TaskVector, dict[str, Any]]:
    """Return the merged vector alone, of task vectors' files, and the record of how it was made.

    Args:
        sources, method, modifiers, statistics, device: as for :func:`merge_vectors`.

    Raises:
        UserError: as for :func:`merge_vectors`.
    """
    steps = _resolve(method, modifiers)
    opened, images = _open(sources), _open_statistics(statistics)
    return _sum(opened, steps, images, device), _record(opened, images, steps)


def merge_vectors(
    sources: Mapping[str, Path],
    directory: Path,
    recipe: str,
    method: Step,
    modifiers: Sequence[Step] = (),
    statistics: Mapping[str, Path] | None = None,
    device: torch.device = CPU,
) -> dict[str, Any]:
    """Merge task vectors' files into ``directory``, one file per task; return the record of how they were made.

    One tensor of all vectors is in memory at a time. The record holds the method and modifiers with all their options,
    what they see, and the SHA-256 of every source and statistic.

    Args:
        sources: the task vectors' files, by task.
        directory: takes ``<task>.safetensors`` for each.
        recipe: the name in the new vectors' provenance.
        method, modifiers, device: as for :func:`merge`.
        statistics: files of :func:`pipeline.merging.statistics.write_statistics`, by task.

    Raises:
        UserError: as for :func:`merge`, or a file is missing or damaged.
    """
    steps = _resolve(method, modifiers)
    opened, images = _open(sources), _open_statistics(statistics)
    shapes = _common_shapes(opened)
    made = partial(replace, recipe=recipe, code=code_fingerprint())
    outputs = {directory / f"{s.task}.safetensors": to_metadata(made(s.provenance)) for s in opened}
    stream = _run(opened, shapes, steps, images, device)
    write_together(outputs, shapes, ((c.name, [d.numpy() for d in deltas.cpu()]) for c, deltas in stream))
    return _record(opened, images, steps)


def _in_memory(vector: TaskVector) -> _Source:
    shapes = {name: tuple(tensor.shape) for name, tensor in vector.tensors.items()}
    return _Source("+".join(vector.provenance.tasks), vector.provenance, vector.tensors, shapes)


def _open(paths: Mapping[str, Path]) -> list[_Source]:
    files = {task: TensorFile(path) for task, path in paths.items()}
    return [_Source(task, _provenance(file), file, file.shapes) for task, file in files.items()]


def _open_statistics(paths: Mapping[str, Path] | None) -> dict[str, ImageStatistics]:
    return {task: ImageStatistics.open(path) for task, path in (paths or {}).items()}


def _record(
    sources: Sequence[_Source], statistics: Mapping[str, ImageStatistics], steps: Sequence[_Step]
) -> dict[str, Any]:
    """Return how vectors were merged."""
    files = {source.task: source.tensors for source in sources}
    return {
        "sources": {task: file.sha256 for task, file in files.items() if isinstance(file, TensorFile)},
        "statistics": {task: image.sha256 for task, image in statistics.items()},
        "steps": [{"kind": m.kind, "name": m.name, "options": o, "sees": m.sees} for m, o in steps],
    }


def _sum(
    sources: Sequence[_Source],
    steps: Sequence[_Step],
    statistics: Mapping[str, ImageStatistics],
    device: torch.device,
) -> TaskVector:
    shapes, (method, _) = _common_shapes(sources), steps[0]
    if method.divisor and len(steps) == 1:
        tensors = {name: _add_up(sources, name, shape) for name, shape in shapes.items()}
        if (divisor := method.divisor(len(sources))) != 1:
            tensors = {name: tensor.div_(divisor) for name, tensor in tensors.items()}
    else:
        stream = _run(sources, shapes, steps, statistics, device, only_sum=True)
        tensors = {context.name: deltas.sum(0).cpu() for context, deltas in stream}
    origins = [source.provenance for source in sources]
    return TaskVector(tensors, replace(origins[0], tasks=tuple(sorted(t for o in origins for t in o.tasks))))


def _add_up(sources: Sequence[_Source], name: str, shape: tuple[int, ...]) -> Tensor:
    """Return the sum of a tensor over tasks, without a copy of each that is in memory.

    Raises:
        UserError: one holds NaN or infinity, which the sum then does as well.
    """
    total = torch.zeros(shape)
    for source in sources:
        if name in source.tensors:
            tensor = source.tensors[name]
            total += tensor if isinstance(tensor, Tensor) else torch.from_numpy(tensor)
    if not torch.isfinite(total).all():
        for source in sources:
            source.read_into(name, torch.empty(shape))
    return total


def _resolve(method: Step, modifiers: Sequence[Step]) -> list[_Step]:
    def find(registry: MethodRegistry, step: Step) -> _Step:
        resolved = registry.find(step.name)
        return resolved, resolved.options(step.options)

    return [find(merging, method), *(find(modifier, step) for step in modifiers)]


def _common_shapes(sources: Sequence[_Source]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors of all vectors, sorted by name.

    Raises:
        UserError: there are fewer than two vectors, two have the same task, or they do not fit together.
    """
    if len(sources) < 2:
        raise UserError(f"merging takes two or more task vectors, not {len(sources)}; name more tasks")
    shapes: dict[str, tuple[int, ...]] = {}
    tasks: set[str] = set()
    first = sources[0].provenance
    for source in sources:
        origin = source.provenance
        if source.task in tasks:
            raise UserError(f"merging: two task vectors are of task {source.task!r}; leave one out")
        tasks.add(source.task)
        if origin.base_sha256 != first.base_sha256:
            raise UserError(
                f"task vectors of different θ₀ cannot be merged: {first} starts from "
                f"{first.base_sha256[:12]}, {origin} from {origin.base_sha256[:12]}"
            )
        for name, shape in source.shapes.items():
            if shapes.setdefault(name, shape) != shape:
                raise UserError(f"{origin}: tensor {name!r} differs in shape from that of another task")
    return dict(sorted(shapes.items()))


def _run(
    sources: Sequence[_Source],
    shapes: Mapping[str, tuple[int, ...]],
    steps: Sequence[_Step],
    statistics: Mapping[str, ImageStatistics],
    device: torch.device,
    only_sum: bool = False,
) -> Stream:
    tasks = tuple(source.task for source in sources)
    needs = steps[0][0].needs
    if needs:
        _check_statistics(steps[0][0], sources, statistics)
    blocks = 1 + max((block for name in shapes if (block := block_of(name)) is not None), default=0)

    def tensors() -> Iterator[tuple[Context, Deltas]]:
        # One workspace for all tensors: fresh memory for each would take longer than reading into it.
        largest = max(map(math.prod, shapes.values()), default=0)
        workspace = torch.empty(len(sources) * largest)
        for name, shape in shapes.items():
            read = workspace[: len(sources) * math.prod(shape)].view(len(sources), *shape)
            for source, tensor in zip(sources, read, strict=True):
                source.read_into(name, tensor)
            deltas = read.to(device)
            known = [statistics[task].find(needs, name) for task in tasks] if needs else []
            present = [statistic.to(device) for statistic in known if statistic is not None]
            images = torch.stack(present) if known and len(present) == len(known) else None
            yield Context(name, tasks, deltas, blocks, statistics=images, only_sum=only_sum), deltas

    stream = Stream(tensors)
    for method, options in steps:
        stream = method.on(stream, options)
    return stream


def _check_statistics(method: Method, sources: Sequence[_Source], statistics: Mapping[str, ImageStatistics]) -> None:
    """Check that a method has the statistics that it needs.

    Raises:
        UserError: a task has none, or they are of another kind, encoder or task vector.
    """
    where = f"{method.kind} {method.name}"
    for source in sources:
        task = source.task
        if task not in statistics:
            raise UserError(f"{where}: has no statistics of the images of {task!r}; compute them")
        given = statistics[task]
        if given.kind != method.needs:
            raise UserError(f"{where}: needs {method.needs}, but {task!r} has {given.kind}")
        if given.base_sha256 != source.provenance.base_sha256:
            raise UserError(f"{where}: the statistics of {task!r} belong to another θ₀; compute them again")
        own = source.tensors.sha256 if isinstance(source.tensors, TensorFile) else None
        if own and given.origin and given.origin["vector_sha256"] != own:
            raise UserError(f"{where}: the statistics of {task!r} are of another task vector; compute them again")


def _provenance(file: TensorFile) -> Provenance:
    try:
        return from_metadata(file.metadata)
    except ValueError as error:
        raise UserError(f"{file.path}: not a task vector: {error}; make it again with `dvc repro`") from None
