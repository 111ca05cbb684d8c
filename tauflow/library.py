"""Tauflow as a library: read task vectors of any origin, merge, write and evaluate them.

    from tauflow import load, merge

    vectors = [load(f"{task}.pt", base="ViT-B-32", task=task) for task in ("mnist", "svhn")]
    merged = merge(vectors, "tsv_m")

A ``TaskVector`` adds, subtracts and scales; ``sum(vectors)`` is their sum.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from artifacts.workspace import PARAMETERS
from pipeline.config import LegalNames, load_parameters
from pipeline.editing import TaskVector, read_task_vector, sum_vectors, write_task_vector
from pipeline.errors import UserError
from pipeline.foreign.checkpoint import read_foreign
from pipeline.images import Split
from pipeline.merging import Step, check_steps
from pipeline.merging import merge as merge_steps
from pipeline.models import model_names
from pipeline.tasks import task_names
from tauflow.edited.evaluate import evaluate_vector, results_frame
from tauflow.edited.import_vector import to_task_vector
from tauflow.edited.merge import RECIPE, pretrained

__all__ = ["TaskVector", "evaluate", "load", "merge", "save"]


def load(path: str | Path, base: str | None = None, task: str | None = None) -> TaskVector:
    """Return the task vector in a file of Tauflow's, or τ = θ − θ₀ of another project's checkpoint.

    Args:
        path: a task vector of Tauflow's; or, with ``base``, every file or folder that `tauflow import` reads.
        base: the model of a checkpoint, whose θ₀ is that of the pipeline if it is here, and is fetched otherwise.
        task: the task of a checkpoint; by default the file's name without its suffix.

    Raises:
        UserError: the file cannot be read, or is not a checkpoint of that model.
    """
    path = Path(path)
    if base is None:
        return read_task_vector(path)
    _, encoder, _ = pretrained(base)
    return to_task_vector(read_foreign(path), encoder, base, RECIPE, task or path.stem).vector


def save(vector: TaskVector, path: str | Path) -> None:
    """Write a task vector as one safetensors file, which every ``--vector`` takes.

    Raises:
        UserError: the file exists already.
    """
    path = Path(path)
    if path.exists():
        raise UserError(f"{path}: exists already; choose another file")
    write_task_vector(path, vector)


def merge(
    vectors: Sequence[TaskVector],
    method: str = "sum",
    modifiers: Mapping[str, Mapping[str, Any]] | None = None,
    **options: Any,
) -> TaskVector:
    """Return the merged task vector of two or more tasks.

    Args:
        vectors: one per task, from the same θ₀.
        method: a name from docs/reference/merging.md; those that need images are not available here.
        modifiers: modifiers with their options, in this order: ``{"svc": {"floor": 0.2}}``.
        options: options of the method that differ from its defaults.

    Raises:
        UserError: a name or an option is wrong, or the vectors do not fit together.
    """
    steps = [Step(name, values) for name, values in (modifiers or {}).items()]
    check_steps(Step(method, options), steps)
    return sum_vectors(merge_steps(vectors, Step(method, options), steps))


def evaluate(vector: TaskVector, tasks: Sequence[str], split: Split = "test") -> pd.DataFrame:
    """Return the accuracy of θ₀ + τ on tasks of the study in the current directory, beside zero-shot, in percent.

    Tasks outside the study are prepared first. One row per task, and their mean; cells are
    ``54.8 [53.1, 56.4]``, with the 95 % interval over images.

    Raises:
        UserError: τ was trained in tangent space or starts from another θ₀, or an artifact of the study is missing.
    """
    params = load_parameters(PARAMETERS, LegalNames(task_names(), model_names()))
    unknown = [task for task in tasks if task not in task_names()]
    if unknown:
        raise UserError(f"evaluate: unknown task {unknown[0]!r}; choose from {', '.join(task_names())}")
    results = evaluate_vector(params, vector, repr(vector), tasks, split)
    return results_frame(params, results).drop(columns="normalised")
