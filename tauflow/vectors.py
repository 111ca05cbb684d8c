"""Task vectors on the command line: which there are, what they are made of, sums of them."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from pipeline.editing import TaskVector, read_task_vector, sum_vectors, write_task_vector
from pipeline.errors import UserError
from pipeline.progress import progress
from tauflow import layout

# Characters of a hash that tell two apart.
_HASH = 12


def list_vectors() -> pd.DataFrame:
    """All task vectors here, one row each; cells are text.

    Raises:
        UserError: there are none, or one is damaged.
    """
    paths = sorted(Path().glob(str(layout.task_vector("*", "*", "*"))))
    if not paths:
        raise UserError(
            f"{layout.task_vector('MODEL', 'RECIPE', 'TASK')}: there is no task vector; make them with `dvc repro "
            "task_vector` or fetch them with `dvc pull task_vector`, from the root of the repository"
        )
    return pd.DataFrame([_row(path) for path in progress(paths, "task vectors", len(paths))])


def show_vector(model: str, recipe: str, task: str) -> tuple[dict[str, str], pd.DataFrame]:
    """What a task vector says of itself, and the norm of each layer's part; cells are text.

    Raises:
        UserError: it does not exist, or is damaged.
    """
    vector = _read(model, recipe, task)
    origin = {name: str(value) for name, value in asdict(vector.provenance).items()}
    described = {**origin, "tasks": ", ".join(vector.provenance.tasks), "norm": f"{vector.norm():.4f}"}
    return described, pd.DataFrame(_layers(vector))


def combine_vectors(model: str, recipe: str, edit: Mapping[str, float], out: Path) -> TaskVector:
    """Write Σ aₜ τₜ, of one recipe, as one task vector.

    Raises:
        UserError: a vector does not exist or is damaged, they start from different θ₀, or ``out`` exists.
    """
    if out.exists():
        raise UserError(f"{out}: exists already; choose another --out")
    combined = sum_vectors(coefficient * _read(model, recipe, task) for task, coefficient in edit.items())
    write_task_vector(out, combined)
    return combined


def _row(path: Path) -> dict[str, str]:
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
        there = sorted(f"{p.parent.parent.name}/{p.parent.name}" for p in directory.glob(f"*/*/{task}.safetensors"))
        known = f"{task} has one of {', '.join(there)}" if there else f"{task} has none; `dvc repro` makes them"
        raise UserError(f"{path}: no such task vector; {known}")
    return read_task_vector(path)


def _layers(vector: TaskVector) -> list[dict[str, str]]:
    """Parameters of a module belong together: weight and bias, query, key and value."""
    grouped: defaultdict[str, list[str]] = defaultdict(list)
    for name in vector.tensors:
        grouped[name.rpartition(".")[0] or name].append(name)
    layers = {
        layer: TaskVector({name: vector.tensors[name] for name in names}, vector.provenance)
        for layer, names in grouped.items()
    }
    whole = vector.norm() ** 2
    return [
        {
            "layer": layer,
            "parameters": f"{sum(tensor.numel() for tensor in part.tensors.values())}",
            "norm": f"{part.norm():.4f}",
            "share of ‖τ‖², %": f"{100 * part.norm() ** 2 / whole:.1f}" if whole else "",
        }
        for layer, part in layers.items()
    ]
