"""Any edit on any task: what the stages compute for their edits, for one that the user writes."""

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool

from pipeline.config import Parameters
from pipeline.errors import UserError
from pipeline.evaluation import predict, read_correct
from pipeline.evaluation.intervals import Bootstrap, bootstrap_accuracy, bootstrap_mean, bootstrap_normalised
from pipeline.evaluation.protocols import Correct
from pipeline.measurements import Estimate
from pipeline.tasks import Split
from stages.inputs import read_inputs
from tauflow import layout

gc.enable()  # the package of the stages stops it for their start


@dataclass(frozen=True)
class TaskResult:
    """Bootstrapped accuracies of one task, or means over tasks; ``normalised`` is ``None`` without a reference."""

    task: str
    zero_shot: Bootstrap
    edited: Bootstrap
    normalised: Bootstrap | None


def evaluate_edit(
    params: Parameters, model: str, paradigm: str, edit: Mapping[str, float], tasks: Sequence[str], split: Split
) -> list[TaskResult]:
    """Accuracy of an edited model on each task, of several tasks also the mean (without the control).

    Tasks are resampled as in the stages, so that the edit of a stage gets that stage's intervals.

    Args:
        params: of the repository.
        model: one of the models of the parameters.
        paradigm: one of the paradigms of the parameters; its recipe's task vectors, edited in its space.
        edit: α by task.
        tasks: those to evaluate on, of the tasks of the parameters and the control.
        split: which images.

    Raises:
        UserError: an artifact is missing, damaged, or does not fit another.
    """
    inputs = read_inputs(params, model, paradigm, params.paradigm[paradigm].recipe)
    coefficients = torch.tensor([[0.0] * len(params.tasks), [edit.get(task, 0.0) for task in params.tasks]])
    single = _single_task(model, paradigm) if split == "test" else {}
    results = []
    for task in tasks:
        benchmark = inputs.benchmark(task, split)
        predictions = predict(inputs.space, coefficients, [benchmark], params.evaluation.batch_size, f"edit on {task}")
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
    of_tasks = [result for result in results if result.task != params.control]
    return [*results, _mean(of_tasks)] if len(of_tasks) > 1 else results


def results_frame(params: Parameters, results: Sequence[TaskResult]) -> pd.DataFrame:
    """One row per task; cells are ``54.8 [53.1, 56.4]``, in percent."""
    rows = []
    for result in results:
        control = result.task == params.control
        row = {"task": f"{result.task} (control)" if control else result.task, "images": str(result.edited.n)}
        for title, found in (
            ("zero-shot", result.zero_shot),
            ("edited", result.edited),
            ("normalised", result.normalised),
        ):
            row[title] = _cell(found.estimate(params.intervals)) if found else ""
        rows.append(row)
    return pd.DataFrame(rows)


def _single_task(model: str, paradigm: str) -> Correct:
    path = layout.correctness(model, paradigm, "single_task")
    return read_correct(path, "single_task") if path.exists() else {}


def _normalised(
    params: Parameters, task: str, edited: Bool[np.ndarray, " n"], single: Correct, stream: int
) -> Bootstrap | None:
    if task not in single:
        return None
    if len(single[task]) != len(edited):
        raise UserError(f"task {task}: its single-task result is of other images; run `dvc repro single_task`")
    return bootstrap_normalised(edited, single[task], params.intervals, stream, task)


def _mean(results: Sequence[TaskResult]) -> TaskResult:
    normalised = [result.normalised for result in results if result.normalised]
    return TaskResult(
        "mean over tasks",
        bootstrap_mean([result.zero_shot for result in results]),
        bootstrap_mean([result.edited for result in results]),
        bootstrap_mean(normalised) if len(normalised) == len(results) else None,
    )


def _cell(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
