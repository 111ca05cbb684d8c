"""Evaluate a user's edit on any tasks, as the stages evaluate theirs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from artifacts import layout
from artifacts.evaluation.benchmarks import Inputs, read_inputs
from artifacts.evaluation.edit_spaces import read_encoder
from pipeline.config import Parameters
from pipeline.editing import TaskVector
from pipeline.editing.spaces import EditSpace, WeightSpace
from pipeline.errors import UserError
from pipeline.evaluation.correctness import read_correct
from pipeline.evaluation.intervals import Bootstrap, bootstrap_accuracy, bootstrap_mean, bootstrap_normalised
from pipeline.evaluation.prediction import Benchmark, predict
from pipeline.evaluation.protocols import CorrectByTask
from pipeline.images import Split
from pipeline.measurements import Estimate
from pipeline.models.devices import prepare_device
from tauflow.dvc.verification import check_inputs
from tauflow.edited.classify import EditedModel, edited_model, open_edited
from tauflow.edited.edit import Edited, check_vector
from tauflow.edited.finite_space import FiniteSpace
from tauflow.edited.outside import read_outside


@dataclass(frozen=True)
class TaskResult:
    """Bootstrapped accuracies of one task, or means over tasks; ``normalised`` is ``None`` without a reference.

    ``single`` is the accuracy of the single-task model, if it was evaluated as well.
    """

    task: str
    zero_shot: Bootstrap
    edited: Bootstrap
    normalised: Bootstrap | None
    single: Bootstrap | None = None


def evaluate_edit(
    params: Parameters, model: str, paradigm: str, edit: Mapping[str, float], tasks: Sequence[str], split: Split
) -> list[TaskResult]:
    """Return the accuracy of an edited model on each task and, for several tasks, the mean without the control.

    Tasks are resampled as in the stages, so an edit that a stage evaluates gets the same intervals.

    Args:
        params: the parameters of the repository.
        model: a model of the parameters.
        paradigm: a paradigm of the parameters; its recipe's task vectors are added in its space.
        edit: α by task.
        tasks: the tasks to evaluate on; those outside the study are prepared first.
        split: the images to evaluate on.

    Raises:
        UserError: an artifact is missing, damaged, or does not fit another.
    """
    inside, outside = _divided(params, tasks)
    results = _evaluate_inside(params, model, paradigm, edit, inside, split) if inside else []
    if outside:
        results += _evaluate_outside(params, open_edited(params, Edited(model, paradigm, edit)), outside, split)
    return with_mean(params, results)


def _evaluate_inside(
    params: Parameters, model: str, paradigm: str, edit: Mapping[str, float], tasks: Sequence[str], split: Split
) -> list[TaskResult]:
    inputs = read_inputs(params, model, paradigm, params.vectors_of(paradigm))
    coefficients = torch.tensor([[0.0] * len(params.tasks), [edit.get(task, 0.0) for task in params.tasks]])
    single = _single_task(model, paradigm) if split == "test" else {}
    return _evaluate(params, inputs.space, coefficients, tasks, partial(inputs.benchmark, split=split), single)


def evaluate_vector(
    params: Parameters, vector: TaskVector, where: str, tasks: Sequence[str], split: Split
) -> list[TaskResult]:
    """Return the accuracy of θ₀ + τ on each task; see :func:`evaluate_edit`.

    ``where`` names τ in messages.

    Raises:
        UserError: τ was trained in tangent space or starts from another θ₀, or an artifact is missing
            or damaged.
    """
    model = vector.provenance.model
    inside, outside = _divided(params, tasks)
    check_inputs([path for task in inside for path in (layout.split(task, split), layout.head(model, task))], ())
    encoder = read_encoder(model)
    check_vector(where, vector.provenance, encoder.sha256)
    space = WeightSpace(encoder, [vector], prepare_device(params.device), params.evaluation)
    benchmark = partial(Inputs(space, model, None).benchmark, split=split)
    results = _evaluate(params, space, torch.tensor([[0.0], [1.0]]), inside, benchmark, {})
    if outside:
        results += _evaluate_outside(params, edited_model(params, encoder, vector, tangent=False), outside, split)
    return with_mean(params, results)


def _divided(params: Parameters, tasks: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide tasks into those of the study and the others."""
    inside = [task for task in tasks if task in params.derived.datasets]
    return inside, [task for task in tasks if task not in inside]


def _evaluate_outside(params: Parameters, edited: EditedModel, tasks: Sequence[str], split: Split) -> list[TaskResult]:
    """Evaluate θ₀ and an edit of it on tasks that are not of the study.

    Raises:
        UserError: a task's images cannot be obtained, or an embedding is NaN or infinite.
    """

    def benchmark(task: str) -> Benchmark:
        return read_outside(params, edited.name, task, split, edited.image_size)

    return _evaluate(params, edited.space, torch.tensor([[0.0], [1.0]]), tasks, benchmark, {})


def _evaluate(
    params: Parameters,
    space: EditSpace,
    coefficients: Float[Tensor, "2 vectors"],
    tasks: Sequence[str],
    benchmark: Callable[[str], Benchmark],
    single: CorrectByTask,
) -> list[TaskResult]:
    """Evaluate two edits; the first one is θ₀. ``benchmark`` reads the images or features of a task.

    Raises:
        UserError: an embedding is NaN or infinite.
    """
    results, finite = [], FiniteSpace(space)
    for task in tasks:
        predictions = predict(finite, coefficients, [benchmark(task)], f"edit on {task}")
        zero_shot, edited = predictions[task].correct()
        stream = params.tasks.index(task) if task in params.tasks else 0
        results.append(
            TaskResult(
                task,
                bootstrap_accuracy(zero_shot, params.intervals, stream),
                bootstrap_accuracy(edited, params.intervals, stream),
                _normalised(params, task, edited, single, stream),
            )
        )
    return results


def with_mean(params: Parameters, results: list[TaskResult]) -> list[TaskResult]:
    """Return the results and, for several tasks, their mean without the control."""
    uncontrolled = [result for result in results if result.task != params.control]
    return [*results, _mean(uncontrolled)] if len(uncontrolled) > 1 else results


def results_frame(params: Parameters, results: Sequence[TaskResult], edited: str = "edited") -> pd.DataFrame:
    """Return one row per task; cells are ``54.8 [53.1, 56.4]``, in percent. ``edited`` titles the edited column."""
    rows = []
    for result in results:
        control = result.task == params.control
        row = {"task": f"{result.task} (control)" if control else result.task, "images": str(result.edited.n)}
        columns: dict[str, Bootstrap | None] = {"zero-shot": result.zero_shot, edited: result.edited}
        if any(other.single for other in results):
            columns["single-task"] = result.single
        columns["normalised"] = result.normalised
        for title, accuracy in columns.items():
            row[title] = _cell(accuracy.estimate(params.intervals)) if accuracy else ""
        rows.append(row)
    return pd.DataFrame(rows)


def _single_task(model: str, paradigm: str) -> CorrectByTask:
    path = layout.correctness(model, paradigm, "single_task")
    return read_correct(path, "single_task") if path.exists() else {}


def _normalised(
    params: Parameters, task: str, edited: Bool[np.ndarray, " n"], single: CorrectByTask, stream: int
) -> Bootstrap | None:
    if task not in single:
        return None
    if len(single[task]) != len(edited):
        raise UserError(f"task {task}: its single-task result belongs to other images; run `dvc repro single_task`")
    return bootstrap_normalised(edited, single[task], params.intervals, stream, task)


def _mean(results: Sequence[TaskResult]) -> TaskResult:
    return TaskResult(
        "mean over tasks",
        bootstrap_mean([result.zero_shot for result in results]),
        bootstrap_mean([result.edited for result in results]),
        _mean_of_all([result.normalised for result in results]),
        _mean_of_all([result.single for result in results]),
    )


def _mean_of_all(statistics: Sequence[Bootstrap | None]) -> Bootstrap | None:
    """Return the mean, or ``None`` if a task has no value."""
    present = [statistic for statistic in statistics if statistic]
    return bootstrap_mean(present) if len(present) == len(statistics) else None


def _cell(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
