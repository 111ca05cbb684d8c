"""Task vectors on the command line: list them, show their layers, sum or merge them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from artifacts import layout
from pipeline.editing import TaskVector, read_task_vector, sum_vectors, write_task_vector
from pipeline.errors import UserError
from pipeline.io.progress import progress
from pipeline.merging import Step, check_steps, merge
from tauflow.dvc.verification import check_origin

# Displayed characters of a hash.
_HASH = 12


def list_vectors() -> pd.DataFrame:
    """Return a table of the repository's task vectors, one row each; cells are text.

    Raises:
        UserError: no task vector exists, or one is damaged.
    """
    paths = sorted(Path().glob(str(layout.task_vector("*", "*", "*"))))
    if not paths:
        raise UserError(
            f"{layout.task_vector('MODEL', 'RECIPE', 'TASK')}: no such task vector; make them with `dvc repro "
            "task_vector` or fetch them with `dvc pull task_vector`, from the root of the repository"
        )
    return pd.DataFrame([_row(path) for path in progress(paths, "task vectors", len(paths))])


def show_vector(model: str, recipe: str, task: str) -> tuple[dict[str, str], pd.DataFrame]:
    """Return a task vector's metadata, and a table with the norm of each layer's part; cells are text.

    Raises:
        UserError: the vector does not exist, or is damaged.
    """
    vector = _read(model, recipe, task)
    origin = {name: str(value) for name, value in asdict(vector.provenance).items()}
    metadata = {**origin, "tasks": ", ".join(vector.provenance.tasks), "norm": f"{vector.norm():.4f}"}
    return metadata, pd.DataFrame(_layers(vector))


def combine_vectors(
    model: str, recipe: str, edit: Mapping[str, float], method: Step, modifiers: Sequence[Step], out: Path
) -> TaskVector:
    """Write Σ aₜ τₜ over one recipe's task vectors, plain or merged, as one task vector.

    The recipe of a merged vector is ``<recipe>_<method>``, followed by the modifiers.

    Raises:
        UserError: a vector does not exist or is damaged, they start from different θ₀, a method or an option is wrong,
            or ``out`` exists.
    """
    if out.exists():
        raise UserError(f"{out}: exists already; choose another --out")
    check_steps(method, modifiers)
    vectors = [_read(model, recipe, task) for task in edit]
    steps = [step.name for step in (method, *modifiers)]
    if steps != ["sum"]:
        name = "_".join([recipe, *steps])
        merged = merge(vectors, method, modifiers)
        vectors = [TaskVector(v.tensors, replace(v.provenance, recipe=name)) for v in merged]
    combined = sum_vectors(coefficient * vector for coefficient, vector in zip(edit.values(), vectors, strict=True))
    write_task_vector(out, combined)
    return combined


def _row(path: Path) -> dict[str, str]:
    check_origin(path)
    vector = read_task_vector(path)
    return {
        "model": path.parts[-3],
        "recipe": path.parts[-2],
        "task": path.stem,
        "tensors": str(len(vector.tensors)),
        "norm": f"{vector.norm():.4f}",
        "θ₀": vector.provenance.base_sha256[:_HASH],
        "seed": str(vector.provenance.seed),
    }


def _read(model: str, recipe: str, task: str) -> TaskVector:
    path = layout.task_vector(model, recipe, task)
    if not path.exists():
        directory = path.parents[2]
        recipes = sorted(f"{p.parent.parent.name}/{p.parent.name}" for p in directory.glob(f"*/*/{task}.safetensors"))
        known = f"{task} has one of {', '.join(recipes)}" if recipes else f"{task} has none; `dvc repro` makes them"
        raise UserError(f"{path}: no such task vector; {known}")
    check_origin(path)
    return read_task_vector(path)


def _layers(vector: TaskVector) -> list[dict[str, str]]:
    """Return a row per layer; the parameters of a module (weight and bias; query, key and value) form a layer."""
    grouped: defaultdict[str, list[str]] = defaultdict(list)
    for name in vector.tensors:
        grouped[name.rpartition(".")[0] or name].append(name)
    layers = {
        layer: TaskVector({name: vector.tensors[name] for name in names}, vector.provenance)
        for layer, names in grouped.items()
    }
    total = vector.norm() ** 2
    return [
        {
            "layer": layer,
            "parameters": f"{sum(tensor.numel() for tensor in part.tensors.values())}",
            "norm": f"{part.norm():.4f}",
            "share of ‖τ‖², %": f"{100 * part.norm() ** 2 / total:.1f}" if total else "",
        }
        for layer, part in layers.items()
    ]
